# Makes load on a running hub until it refuses, and shows its recovery; takes the arguments of `sheratan-bench load-test`.
# Other clients are refused as well while the queue is full. SHERATAN_BENCH names the binary if it is not on PATH.
& $(if ($env:SHERATAN_BENCH) { $env:SHERATAN_BENCH } else { 'sheratan-bench' }) load-test @args; exit $LASTEXITCODE

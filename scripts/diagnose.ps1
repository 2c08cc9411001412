# Writes an archive for a support person; takes the arguments of `sheratan-hub diagnose`. SHERATAN_HUB names the binary if
# it is not on PATH.
& $(if ($env:SHERATAN_HUB) { $env:SHERATAN_HUB } else { 'sheratan-hub' }) diagnose @args; exit $LASTEXITCODE

# Checks a running hub; takes the arguments of `sheratan-hub smoke`. SHERATAN_HUB names the binary if it is not on PATH.
& $(if ($env:SHERATAN_HUB) { $env:SHERATAN_HUB } else { 'sheratan-hub' }) smoke @args; exit $LASTEXITCODE

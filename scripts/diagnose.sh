#!/bin/sh
# Writes an archive for a support person; takes the arguments of `sheratan-hub diagnose`. SHERATAN_HUB names the binary;
# else it is looked for on PATH, then where cargo builds it.
hub=${SHERATAN_HUB:-$(command -v sheratan-hub || echo "$(dirname "$0")/../target/release/sheratan-hub")}
exec "$hub" diagnose "$@"

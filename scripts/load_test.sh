#!/bin/sh
# Makes load on a running hub until it refuses, and shows its recovery; takes the arguments of `sheratan-bench load-test`:
#   scripts/load_test.sh --url http://127.0.0.1:8788 --token-file DATA/secrets/hub_token
# Other clients are refused as well while the queue is full. Exits with 0 if the hub throttled, showed it and recovered.
# SHERATAN_BENCH names the binary; else it is looked for on PATH, then where cargo builds it.
bench=${SHERATAN_BENCH:-$(command -v sheratan-bench || echo "$(dirname "$0")/../target/release/sheratan-bench")}
exec "$bench" load-test "$@"

#!/bin/sh
# Checks a running hub; takes the arguments of `sheratan-hub smoke`. SHERATAN_HUB names the binary if it is not on PATH.
exec "${SHERATAN_HUB:-sheratan-hub}" smoke "$@"

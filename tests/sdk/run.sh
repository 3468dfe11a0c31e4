#!/usr/bin/env bash
# Runs the SDK tests: starts the stand-in provider and the gateway (POSTERN_BIN or the first build found), then
# node's test runner with TAP on standard output. With --direct there is no gateway: the libraries talk
# to the stand-in itself. Further arguments are test files.
set -eu
cd "$(dirname "$0")"
exec /usr/bin/python3 run.py "$@"

#!/usr/bin/env bash
# A command of the stock program ends with the exit code 0.
# usage: run.sh REPRISE_STOCK COMMAND [ARGUMENT]...
set -uo pipefail
unset TEST_TOTAL_SHARDS
program=$1
shift
exec "$program" "$@"

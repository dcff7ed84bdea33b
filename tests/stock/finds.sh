#!/usr/bin/env bash
# An exploration finds a violation.
# usage: finds.sh PROGRAM [ARGUMENT OF EXPLORE]...
set -uo pipefail
unset TEST_TOTAL_SHARDS
program=$1
shift
# As reprise_stock does it itself (docs/stock.md).
fixed=()
setarch -R true 2>/dev/null && fixed=(setarch -R)
"${fixed[@]}" "$program" explore "$@" \
  --out "${TEST_UNDECLARED_OUTPUTS_DIR:-/tmp}"
code=$?
[[ $code == 1 ]] && echo "PASSED" && exit 0
echo "FAILED: explore ended with $code, not 1"
exit 1

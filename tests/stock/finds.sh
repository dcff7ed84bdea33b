#!/usr/bin/env bash
# An exploration finds a violation of a rule.
# usage: finds.sh RULE PROGRAM [ARGUMENT OF EXPLORE]...
set -uo pipefail
unset TEST_TOTAL_SHARDS
rule=$1 program=$2
shift 2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
# As reprise_stock does it itself (docs/stock.md).
fixed=()
setarch -R true 2>/dev/null && fixed=(setarch -R)
"${fixed[@]}" "$program" explore "$@" --out "$out"
code=$?
if [[ $code != 1 ]]; then
  echo "FAILED: explore ended with $code, not 1"
elif ! grep -qx "rule $rule" "$out"/*.replay; then
  echo "FAILED: it breaks another rule than $rule:"
  grep -h "^rule " "$out"/*.replay
else
  echo "PASSED"
  exit 0
fi
exit 1

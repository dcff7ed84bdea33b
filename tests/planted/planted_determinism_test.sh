#!/usr/bin/env bash
# A planted escape from the seams is caught by `verify`, which names its kind
# and an event; without it the same seeds verify.
# usage: planted_determinism_test.sh REPRISE REPRISE_PLANTED DEFECT SCENARIO KIND
set -uo pipefail
reprise=$1 planted=$2 defect=$3 scenario=$4 kind=$5

"$planted" verify "$scenario" --plant "$defect" --seeds 5 >found.txt
code=$?
cat found.txt
if [[ $code != 3 ]]; then
  echo "FAILED: verify did not catch $defect: exit code $code"
  exit 1
fi
grep -q "is NOT DETERMINISTIC ($kind)" found.txt || {
  echo "FAILED: the kind is not $kind"
  exit 1
}
grep -q 'expected: t=' found.txt || { echo "FAILED: no event is named"; exit 1; }

"$reprise" verify "$scenario" --seeds 2 || {
  echo "FAILED: the real agent does not verify"
  exit 1
}
echo "PASSED: $defect"

#!/usr/bin/env bash
# A planted defect is found by the exploration of its scenario, its replay file
# shows it again in another process, and the agent as shipped passes it.
# usage: planted_defect_test.sh REPRISE REPRISE_PLANTED DEFECT SCENARIO \
#     [OPTION OF EXPLORE]...
set -uo pipefail
reprise=$1 planted=$2 defect=$3 scenario=$4
shift 4
out=${TEST_UNDECLARED_OUTPUTS_DIR:-$(mktemp -d)}
unset TEST_TOTAL_SHARDS

fail() {
  printf 'FAILED: %s\n' "$*"
  exit 1
}

expect() { # EXIT_CODE WHAT COMMAND...
  local wanted=$1 what=$2
  shift 2
  "$@"
  local got=$?
  [[ $got == "$wanted" ]] || fail "$what: exit code $got, not $wanted"
}

expect 1 "to find it" \
  "$planted" explore "$scenario" --plant "$defect" --seeds 2000 --out "$out" \
  "$@"
replay=("$out/$scenario"-*.replay)
[[ ${#replay[@]} == 1 && -s ${replay[0]} ]] || fail "no replay file in $out"
hash=$(sed -n 's/^hash //p' "${replay[0]}")

expect 1 "to replay it" "$planted" replay "${replay[0]}" --json >"$out/again.json"
grep -q "\"hash\": \"$hash\"" "$out/again.json" ||
  fail "the replay has another hash than $hash"

# Another build, in which nothing is violated: that proves nothing.
expect 5 "to replay it on the real agent" "$reprise" replay "${replay[0]}"
echo "PASSED: $defect"

#!/usr/bin/env bash
# The agent's rare ways are taken in its planted build when they are switched
# on, every one of them, and are absent from the object code of the shipped one.
# usage: rare_ways_test.sh REPRISE REPRISE_PLANTED
set -uo pipefail
shipped=$1 planted=$2
failures=0
fail() {
  echo "FAILED: $*"
  failures=$((failures + 1))
}

places=(
  "keepalive looks early"
  "members are read"
  "pool is slow to begin"
  "pool waits awake"
  "store is slow to answer"
  "timer is late"
  "timer wakes"
)

for program in "$shipped" "$planted"; do
  [[ -r $program ]] || fail "cannot read $program"
done

report=$("$planted" explore dynamic_join --plant rare_ways --seeds 100) ||
  fail "dynamic_join does not hold: $report"
for scenario in lifecycle timeouts; do
  "$planted" explore "$scenario" --plant rare_ways --seeds 60 ||
    fail "$scenario does not hold"
done
for place in "${places[@]}"; do
  grep -q "rare: $place [1-9]" <<<"$report" || fail "'$place' is never taken"
  grep -aq "$place" "$planted" || fail "the planted build has no '$place'"
  if grep -aq "$place" "$shipped"; then
    fail "the shipped build has '$place'"
  fi
done

known=$(grep -c 'rare: ' <<<"$(grep -o 'rare: [a-z ]*' <<<"$report" | sort -u)")
if [[ $known != "${#places[@]}" ]]; then
  fail "there are $known places, and this test knows ${#places[@]}"
fi
# Without the switch none is taken.
report=$("$planted" explore echo --seeds 20) || fail "echo does not hold"
if grep 'rare: ' <<<"$report"; then
  fail "rare ways are taken without being asked for"
fi
exit "$((failures > 0))"

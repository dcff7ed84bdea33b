#!/usr/bin/env bash
# The replay file of a defect is kept. Its test passes with the defect mended,
# and fails when the defect is there again.
# usage: kept_replay_test.sh REPRISE REPRISE_PLANTED REPLAY_TEST DEFECT SCENARIO
set -uo pipefail
reprise=$1 planted=$2 replay_test=$3 defect=$4 scenario=$5
out=$(mktemp -d)
unset TEST_TOTAL_SHARDS

fail() {
  printf 'FAILED: %s\n' "$*"
  exit 1
}

"$planted" explore "$scenario" --plant "$defect" --seeds 2000 --out "$out" >/dev/null
[[ $? == 1 ]] || fail "$defect was not found"
"$reprise" keep "$out/$scenario"-*.replay --to "$out/kept" --as "$defect" ||
  fail "it was not kept"
kept=$out/kept/$defect.replay
grep -q '^expect holds' "$kept" || fail "the file does not say what it expects"

bash "$replay_test" "$reprise" "$kept" 16 || fail "the mended agent fails"

cat >"$out/with_the_defect" <<END
#!/bin/sh
exec "$planted" --plant $defect "\$@"
END
chmod +x "$out/with_the_defect"
TEST_UNDECLARED_OUTPUTS_DIR=$out \
  bash "$replay_test" "$out/with_the_defect" "$kept" 16
got=$?
[[ $got == 1 ]] || fail "with the defect the exit code is $got"
echo "PASSED: $defect"

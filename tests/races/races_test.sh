#!/usr/bin/env bash
# The agent with the runtime of production, in worlds whose threads are OS
# threads: its scenarios hold. Built with ThreadSanitizer (--config=tsan), there
# is no race in them, and a race that was planted is reported by the command
# with its seed, and again when its file is replayed.
# usage: races_test.sh REPRISE_RACES
set -uo pipefail
program=$1
unset TEST_TOTAL_SHARDS
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

fail() {
  echo "FAILED: $*"
  exit 1
}

# GCC links it as a library, and clang into the program.
if [[ $(ldd "$program") == *libtsan* ]] ||
  nm "$program" | grep -q ' T __tsan_init$'; then
  has_tsan=yes
  seeds=6
else
  has_tsan=
  seeds=20
fi

for scenario in lifecycle peer_dies shutdown_barrier; do
  "$program" explore "$scenario" --runtime real --seeds "$seeds" --out "$out" ||
    fail "$scenario: exit code $?"
done
"$program" explore counter_cache --context threads --seeds "$seeds" \
  --out "$out" || fail "counter_cache: exit code $?"
# The simulator's runtime has no such line, so nothing is wrong with it.
"$program" explore lifecycle --plant wait_gives_lock_back --context threads \
  --seeds 3 --out "$out" || fail "another runtime's defect: exit code $?"

if [[ -z $has_tsan ]]; then
  "$program" verify peer_dies --runtime real --seeds 3 >"$out/log" ||
    fail "verify: exit code $?: $(cat "$out/log")"
  # Without TSan, nothing shows: no step comes between the two halves.
  "$program" explore counter_cache --param race=1 --seeds "$seeds" \
    --out "$out" || fail "counter_cache --param race=1: exit code $?"
  echo "PASSED: without ThreadSanitizer"
  exit 0
fi

# A race in SCENARIO within 20 seeds, reported in the function PLACE.
expect_race() { # PLACE SCENARIO [ARGUMENT]...
  local place=$1 scenario=$2
  shift 2
  rm -f "$out"/*
  "$program" explore "$scenario" "$@" --seeds 20 --shrink-seconds 0 \
    --out "$out" >"$out/log" 2>&1
  local code=$?
  [[ $code == 1 ]] || fail "$scenario $*: exit code $code: $(cat "$out/log")"
  grep -q "WARNING: ThreadSanitizer: data race" "$out/log" ||
    fail "$scenario $*: no report: $(cat "$out/log")"
  grep -q "^seed [0-9]* fails" "$out/log" ||
    fail "$scenario $*: no seed: $(cat "$out/log")"
  grep -q "^detail .*ThreadSanitizer: data race.*$place" "$out"/*.replay ||
    fail "$scenario $*: it is not in $place: $(cat "$out"/*.replay)"
  "$program" replay "$out"/*.replay >"$out/log" 2>&1
  code=$?
  [[ $code == 1 ]] || fail "$scenario $*: replay: exit code $code"
  grep -q "WARNING: ThreadSanitizer: data race" "$out/log" ||
    fail "$scenario $*: no report in the replay: $(cat "$out/log")"
  echo "$scenario $*: $(sed -n 's/^seed /found in seed /p' "$out"/*.replay)"
}

expect_race "Add" counter_cache --context threads --param race=1
expect_race "" lifecycle --runtime real --plant wait_gives_lock_back
echo "PASSED"

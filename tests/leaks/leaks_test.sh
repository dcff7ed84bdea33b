#!/usr/bin/env bash
# `verify` names what each of these scenarios depends on, and says where. What
# goes through the C or C++ library may also be the world's own: then it holds.
# usage: leaks_test.sh REPRISE_OF_LEAKS
set -uo pipefail
reprise=$1
failed=0

expect() {
  local scenario=$1 kind=$2 may_hold=${3:-} output code
  output=$("$reprise" verify "$scenario" --seeds 2 --seed 5)
  code=$?
  if [[ $code == 0 && ( $kind == none || -n $may_hold ) ]]; then
    echo "passed: $scenario holds"
  elif [[ $code == 3 && $output == *"is NOT DETERMINISTIC ($kind) "* ]]; then
    echo "passed: $scenario: $kind"
  else
    echo "FAILED: $scenario: expected $kind, exit code $code"
    echo "$output"
    failed=1
  fi
}

expect no_leak none
expect address address
expect clock_counter clock
expect clock_time clock may_hold
expect random_kernel random
expect random_device random may_hold
expect static_counter static
expect thread_before thread
expect thread_started thread may_hold

output=$("$reprise" verify clock_counter)
if [[ $output != *NoteCounter* ]]; then
  echo "FAILED: the place of the clock is not named: $output"
  failed=1
fi
exit "$failed"

#!/usr/bin/env bash
# What every subcommand prints with --json is one object of the schema, also
# when something is wrong.
# usage: json_test.sh REPRISE REPRISE_PLANTED CHECK_JSON SCHEMA
set -uo pipefail
reprise=$1 planted=$2 check=$3 schema=$4
failures=0
out=${TEST_TMPDIR:-$PWD}/json_test
mkdir -p "$out"

# object DEFINITION EXIT_CODE PROGRAM ARGUMENT...
object() {
  local definition=$1 wanted=$2 got complaint
  shift 2
  "$@" --json >"$out/object" 2>"$out/notices"
  got=$?
  complaint=$(python3 "$check" "$schema" "$definition" <"$out/object") &&
    [[ $got == "$wanted" ]] && return
  printf 'FAILED: %s --json: exit code %s, wanted %s\n%s\n' "$*" "$got" \
    "$wanted" "$complaint"
  head -c 2000 "$out/notices"
  failures=$((failures + 1))
}

object version 0 "$reprise" --version
object list 0 "$reprise" list
object plants 0 "$planted" --plant list
object doctor 0 "$reprise" doctor
object run 0 "$reprise" run echo
object run 0 "$reprise" run echo --fault 'crash w1 after 1000s'
object run_in_processes 0 "$reprise" run echo --on uv
object run_in_processes 0 "$reprise" run echo --on cuda
object verify 0 "$reprise" verify echo --seeds 2
object exploration 0 "$reprise" explore echo --seeds 5 --out "$out"
object exploration 0 "$reprise" explore echo --on uv --seeds 2 --out "$out"
object sweep 0 "$reprise" explore echo --seeds 3 --schedule all --workers 2,3 \
  --out "$out"
object exploration 1 "$planted" explore timeouts --seeds 2000 --schedule pct \
  --plant lost_wakeup --out "$out"
object replay 1 "$planted" replay "$out"/timeouts-*.replay
object worker 0 "$reprise" worker --bind 127.0.0.1 --rank 0 --world-size 1 \
  --store "file://$out/store"

# It says its object and goes on until it is told to end.
store_until_term() { # ARGUMENT...
  local said=$out/store_says
  "$reprise" store "$@" >"$said" &
  local store=$!
  until grep -q '^}' "$said" || ! kill -0 $store; do sleep 0.02; done
  kill -TERM $store
  wait $store
  local code=$?
  cat "$said"
  return $code
}
object store 0 store_until_term --tcp 127.0.0.1:0

# Whatever is wrong, and whoever finds it.
object error 2 "$reprise"
object error 2 "$reprise" nonsense
object error 2 "$reprise" run
object error 2 "$reprise" run nonsense
object error 2 "$reprise" run echo --nonsense
object error 2 "$reprise" run echo --seed -1
object error 2 "$reprise" run echo --param x
object error 2 "$reprise" run echo --fault 'explode w1'
object error 2 "$reprise" run echo --on mars
object error 2 "$reprise" run echo --trace -
object error 2 "$reprise" run echo --trace /nonexistent/file
object error 2 "$reprise" explore echo --seeds 0
object error 2 "$reprise" explore echo --schedule x
object error 2 "$reprise" explore echo --out /dev/null/x
object error 2 "$reprise" explore echo --on uv --out /dev/null/x
object error 2 "$reprise" explore echo --on uv --fault 'refuse w1 after 0s for 1s'
object error 2 "$reprise" verify echo --seeds 0
object error 2 "$reprise" replay
object error 2 "$reprise" replay /nonexistent.replay
object error 2 "$reprise" worker --rank x
object error 2 "$reprise" worker --scenario echo
object error 2 "$reprise" store
object error 2 "$reprise" store --tcp 127.0.0.1
object error 2 "$reprise" store --tcp 192.0.2.1:0
object error 2 "$planted" run echo --plant nonsense

# The check itself sees what is wrong.
refuses() { # DEFINITION TEXT
  python3 "$check" "$schema" "$1" <<<"$2" >/dev/null && {
    echo "FAILED: the check takes $2 for $1"
    failures=$((failures + 1))
  }
}
refuses error '{}'
refuses error '{"error": 1}'
refuses error '{"error": "x"} {"error": "y"}'
refuses error '{"error": "x", "more": 1}'
refuses version '{"version": "0", "build": "", "compiler": "", "cuda": 1, "planted": false}'

((failures == 0)) && echo PASSED
exit $((failures != 0))

#!/usr/bin/env bash
# Under a debugger, and with --context threads, each thread of a world that has
# not ended is an OS thread of its own with its name, with either runtime.
# Skipped where there is no gdb, or where it may not trace a process.
# usage: gdb_test.sh REPRISE
set -uo pipefail
reprise=$1
# One worker crashes while all are at work.
run=(run peer_dies --seed 1 --fault 'crash w1 after 100ms' --context threads)

if ! command -v gdb >/dev/null; then
  echo "SKIPPED: gdb is not installed"
  exit 0
fi
if ! gdb -batch -nx -ex run --args /bin/true 2>&1 | grep -q "exited normally"; then
  echo "SKIPPED: gdb may not trace a process here"
  exit 0
fi

failures=0
for runtime in sim real; do
  # What lives when the first worker crashes, by the run's own account.
  lives=$("$reprise" "${run[@]}" --runtime "$runtime" --trace - | awk '
    / sched.started / { ++lives }
    / sched.ended / { --lives }
    / crash / { print lives; exit }')
  list=$(gdb -batch -nx -ex "set confirm off" -ex "break reprise::World::Crash" \
    -ex run -ex "info threads" -ex kill \
    --args "$reprise" "${run[@]}" --runtime "$runtime" 2>&1 |
    sed -n '/^ *Id  /,/^$/p')
  names=$(sed -n 's/.*"\(w[0-9]\/[^"]*\)".*/\1/p' <<<"$list")
  count=$(grep -c . <<<"$names")
  if [[ -z $lives || $lives != "$count" ]]; then
    echo "FAILED: $lives threads live with the $runtime runtime, and gdb sees" \
      "$count"
    failures=$((failures + 1))
  fi
  if [[ -n $(sort <<<"$names" | uniq -d) ]]; then
    echo "FAILED: two threads have one name"
    failures=$((failures + 1))
  fi
  for name in w0/main w1/main w2/timer w0/worker-0 w1/connector-0 w2/io; do
    if ! grep -qx "$name" <<<"$names"; then
      echo "FAILED: gdb sees no thread $name with the $runtime runtime"
      failures=$((failures + 1))
    fi
  done
  # One runs: the others, and the one that called `Run`, wait for the baton, or
  # have just given it away.
  waiting=$(grep -c "BatonThread::\|Futex" <<<"$list")
  if [[ $waiting != "$count" ]]; then
    echo "FAILED: of $count threads and one more, $waiting wait"
    failures=$((failures + 1))
  fi
  ((failures == 0)) || echo "$list"
done
((failures == 0)) && echo "PASSED: gdb sees $count threads"
exit $((failures > 0))

#!/usr/bin/env bash
# The rare branches of the agent that agent/probe.h marks are reached by the
# scenarios, within a few seeds, and the marks are absent from the object code of
# the shipped agent.
# usage: agent_probes_test.sh REPRISE REPRISE_PLANTED
set -uo pipefail
shipped=$1 planted=$2
failures=0
fail() {
  echo "FAILED: $*"
  failures=$((failures + 1))
}

probes=(
  "address found too late"
  "address has failed before"
  "all are found in the barrier"
  "barrier entered again"
  "call cancelled in the queue"
  "call cancelled while it is written"
  "call ended while it is handed over"
  "call entered after its deadline"
  "call expired in the queue"
  "call written to a connection that was replaced"
  "client was late to look for an answer"
  "connection is read on"
  "connection to a member that was replaced"
  "lease of the token is broken"
  "peer is blocked when its turn comes"
  "reply to a connection that is gone"
  "room for a call does not come"
  "room for a call was waited for"
)
# Not within so few seeds, or in none: see docs/fidelity.md.
unreached=(
  "address is that of a successor"
  "attempt fails after the shutdown"
  "barrier is over"
  "call cancelled while it is sent again"
  "call entered after the shutdown"
  "call to a member that was replaced"
  "holder of a broken lease wakes up"
  "key of another memory"
  "keyed call ends after the shutdown"
  "lease of the token is broken by another"
  "members changed while one joins"
  "members changed while one leaves"
  "reply to a key is no longer kept"
  "room for a call comes with the shutdown"
)

for program in "$shipped" "$planted"; do
  [[ -r $program ]] || fail "cannot read $program"
done

reached=$(
  for run in "bounds 100" "dynamic_leave 40" "join_again 40" "moved_peer 100" \
    "own_pause 60" "retries 60" "timeouts 30"; do
    read -r scenario seeds <<<"$run"
    "$planted" explore "$scenario" --plant agent_probes --seeds "$seeds" ||
      echo "BROKEN: $scenario"
  done
)
grep 'BROKEN' <<<"$reached" && fail "a scenario does not hold: $reached"
for probe in "${probes[@]}"; do
  grep -q "agent: $probe [1-9]" <<<"$reached" || fail "'$probe' is not reached"
done
for probe in "${probes[@]}" "${unreached[@]}"; do
  grep -aq "$probe" "$planted" || fail "the planted build has no '$probe'"
  if grep -aq "$probe" "$shipped"; then
    fail "the shipped build has '$probe'"
  fi
done
while read -r probe; do
  printf '%s\n' "${probes[@]}" "${unreached[@]}" | grep -qx "$probe" ||
    fail "'$probe' is not in the lists of this test"
done < <(grep -o 'agent: [a-z ]*[a-z]' <<<"$reached" | cut -c 8- | sort -u)
exit "$((failures > 0))"

#!/usr/bin/env bash
# A seed is the same run whether the threads of a world are fibers or OS
# threads, and whether the workers have the simulator's runtime or the one of
# production, in each scenario.
# usage: contexts_test.sh REPRISE SEEDS
set -uo pipefail
reprise=$1
seeds=$2

hash_of() { # ARGUMENT...
  "$reprise" run "$@" --json |
    python3 -c 'import json,sys; print(json.load(sys.stdin)["hash"])'
}

mapfile -t scenarios < <("$reprise" list --json | python3 -c '
import json, sys
print("\n".join(s["name"] for s in json.load(sys.stdin)["scenarios"]))')
if ((${#scenarios[@]} < 10)); then
  echo "FAILED: only ${#scenarios[@]} scenarios"
  exit 1
fi
failures=0
for scenario in "${scenarios[@]}"; do
  for ((seed = 1; seed <= seeds; seed++)); do
    fibers=$(hash_of "$scenario" --seed "$seed" --context fibers)
    threads=$(hash_of "$scenario" --seed "$seed" --context threads)
    real=$(hash_of "$scenario" --seed "$seed" --runtime real)
    if [[ -z $fibers || $fibers != "$threads" || $fibers != "$real" ]]; then
      echo "FAILED: $scenario seed $seed: '$fibers' on fibers," \
        "'$threads' on threads, '$real' with the real runtime"
      failures=$((failures + 1))
    fi
  done
done
echo "${#scenarios[@]} scenarios, $seeds seeds each, $failures differ"
exit $((failures > 0))

#!/usr/bin/env bash
# A scenario in processes of its own, over a real transport.
# usage: processes_test.sh REPRISE SCENARIO TRANSPORT SEEDS [OPTION]...
set -uo pipefail
reprise=$1 scenario=$2 transport=$3 seeds=$4
shift 4
for ((seed = 1; seed <= seeds; ++seed)); do
  "$reprise" run "$scenario" --on "$transport" --seed "$seed" "$@" || {
    echo "FAILED: $scenario on $transport, seed $seed: exit code $?"
    exit 1
  }
done
echo "PASSED: $scenario on $transport"

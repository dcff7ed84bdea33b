#!/usr/bin/env bash
# Two builds of //tests/compilers:hashes, by different compilers, run every seed
# alike. Both run at the same time.
# usage: same_runs.sh HASHES OTHER_HASHES [SEEDS [SCENARIO...]]
set -uo pipefail
first=$1 second=$2
shift 2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

"$first" "$@" >"$out/first" &
pid=$!
"$second" "$@" >"$out/second" || { echo "FAILED: $second"; exit 1; }
wait "$pid" || { echo "FAILED: $first"; exit 1; }

runs=$(wc -l <"$out/first")
if [[ $runs == 0 ]]; then
  echo "FAILED: no runs"
  exit 1
fi
if ! diff "$out/first" "$out/second"; then
  different=$(diff "$out/first" "$out/second" | grep -c '^<')
  echo "FAILED: $different of $runs runs differ"
  exit 1
fi
echo "PASSED: $runs runs are alike"

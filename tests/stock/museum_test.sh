#!/usr/bin/env bash
# A defect of PyTorch's agent is still there when its replay file is run, and
# the same scenario holds on our agent.
# usage: museum_test.sh REPRISE_STOCK FILE
set -uo pipefail
program=$1 file=$2
unset TEST_TOTAL_SHARDS
out=${TEST_UNDECLARED_OUTPUTS_DIR:-$(mktemp -d)}

fail() {
  printf 'FAILED: %s\n' "$*"
  exit 1
}

rule=$(sed -n 's/^rule //p' "$file")
scenario=$(sed -n 's/^scenario //p' "$file")
params=()
while read -r name value; do
  [[ $name == ours || $name == workers ]] || params+=(--param "$name=$value")
done < <(sed -n 's/^param //p' "$file")

"$program" replay "$file" --json >"$out/replay.json"
code=$?
[[ $code == 1 ]] ||
  fail "the replay ends with $code, not 1: $(head -c 2000 "$out/replay.json")"
grep -q "\"rule\": \"$rule\"" "$out/replay.json" ||
  fail "another rule is violated than '$rule'"

"$program" explore "$scenario" --seeds 10 "${params[@]}" --param ours=1 \
  --out "$out" || fail "$scenario does not hold on our agent"
echo "PASSED: $file"

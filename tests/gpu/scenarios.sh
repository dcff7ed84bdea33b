#!/usr/bin/env bash
# Scenarios in processes with tensors on this machine's GPUs, by `reprise run
# --on cuda`, and one by workers that are started as a launcher starts them.
# usage: scenarios.sh REPRISE
#
# Exit codes: 0 all held, 1 something did not, 77 there is no GPU.
set -uo pipefail

reprise=$1
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
passed=0
failed=0

# ok NAME CODE LOG [LINES]: counts, and shows the end of the log.
ok() {
  if [[ $2 == 0 ]]; then
    passed=$((passed + 1))
    echo "ok    $1"
  else
    failed=$((failed + 1))
    echo "FAIL  $1: exit code $2"
  fi
  tail -n "${4:-2}" "$3" | sed 's/^/      /'
}

log=$scratch/log
for scenario in device_streams device_maps gpu_parameter_server device_churn; do
  "$reprise" run "$scenario" --on cuda >"$log" 2>&1
  code=$?
  if [[ $code == 2 ]] && grep -q 'puts tensors on GPUs, and this process sees none' "$log"; then
    echo "skip  scenarios: $(tail -n 1 "$log" | sed 's/^reprise: //')"
    exit 77
  fi
  ok "$scenario" "$code" "$log" 3
done

# Every worker takes the first GPU, so one is enough.
unset RANK WORLD_SIZE MASTER_ADDR MASTER_PORT TORCHELASTIC_RUN_ID
workers=()
for rank in 0 1 2; do
  LOCAL_RANK=0 "$reprise" worker --scenario device_streams --on cuda \
    --bind 127.0.0.1 --store "file://$scratch/store" --rank "$rank" \
    --max-wall-seconds 60 >"$scratch/w$rank" 2>&1 &
  workers+=($!)
done
for rank in 0 1 2; do
  wait "${workers[$rank]}"
  ok "worker w$rank" $? "$scratch/w$rank"
done

echo "$passed passed, $failed failed"
exit $((failed != 0))

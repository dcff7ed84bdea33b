#!/usr/bin/env bash
# Tries the channels for GPUs and the agents on this machine's GPU, and measures
# them. Takes at most four minutes. Without a GPU it says what it skips.
# usage: run.sh [RESULTS_DIRECTORY]      default: a new one in $TMPDIR or /tmp
#
# SANITIZER=memcheck (or racecheck, ...) runs the tests under compute-sanitizer,
# and then without a limit of time in all. PYTHON: the Python with PyTorch.
#
# Exit codes: 0 nothing failed, 1 something failed. The logs of all steps, and
# bench.json, lie in the directory of results.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=$here/bin
results=${1:-}
if [[ -z $results ]]; then
  results=$(mktemp -d "${TMPDIR:-/tmp}/reprise-gpu-results.XXXXXX") || exit 1
fi
mkdir -p "$results" || exit 1
results=$(cd "$results" && pwd)
python=${PYTHON:-python3}
readonly most_seconds=235
table=()
failed=0

sanitizer=()
if [[ -n ${SANITIZER:-} ]]; then
  if ! command -v compute-sanitizer >/dev/null; then
    echo "SANITIZER is set, and there is no compute-sanitizer here" >&2
    exit 1
  fi
  sanitizer=(compute-sanitizer "--tool=$SANITIZER" --target-processes=all
    --error-exitcode=1)
fi

# step NAME SECONDS COMMAND... : runs it, and adds a line to the table.
step() {
  local name=$1 seconds=$2 log=$results/$1.log code what start=$SECONDS
  shift 2
  local left=$((most_seconds - SECONDS))
  if [[ -n ${SANITIZER:-} ]]; then
    seconds=$((seconds * 20))
  elif ((left < seconds)); then
    seconds=$left
  fi
  if ((seconds < 2)); then
    table+=("$(printf '%-18s skipped  no time is left' "$name")")
    return
  fi
  echo "== $name"
  # A function must run in a shell that `timeout` can end.
  [[ $(type -t "$1") == function ]] && set -- bash -c '"$@"' bash "$@"
  timeout -k 5 "$seconds" "$@" >"$log" 2>&1 </dev/null
  code=$?
  case $code in
    0) what="passed   $(summary "$log")" ;;
    77) what="skipped  $(grep -m1 '^skip' "$log" | sed 's/^skip *[^:]*: //')" ;;
    124 | 137)
      what="FAILED   not done after $seconds s; $(tail -n 1 "$log")"
      failed=1
      ;;
    *)
      what="FAILED   exit code $code; $(grep -m1 -E '^FAIL' "$log" || tail -n 1 "$log")"
      failed=1
      ;;
  esac
  grep -E '^(FAIL|skip|time)' "$log" | head -n 40
  table+=("$(printf '%-18s %3d s  %s' "$name" $((SECONDS - start)) "$what")")
}
summary() { grep -E '^[0-9]+ passed' "$1" | tail -n 1; }

# Two workers in a group of their own, as by hand.
two_workers() {
  local store code
  store=$(mktemp -d) || return 1
  "$bin/gpu_worker" --role=server "--store=file://$store" &
  "$bin/gpu_worker" --role=client "--store=file://$store"
  code=$?
  wait $! || code=$?
  rm -rf "$store"
  return $code
}

beside_stock() { # CHANNEL PEER
  if ! command -v "$python" >/dev/null; then
    echo "skip  the stock worker: there is no $python"
    return 77
  fi
  exec "$python" "$here/stock_worker.py" --peer "$2" --channel "$1"
}
export -f two_workers beside_stock
export bin here python

{
  uname -a
  grep -m1 'model name' /proc/cpuinfo
  nproc
  if command -v nvidia-smi >/dev/null; then
    timeout 20 nvidia-smi
    timeout 20 nvidia-smi -q | grep -iE 'driver version|cuda version|product name|compute mode|mig mode' -A1
  else
    echo "there is no nvidia-smi"
  fi
} >"$results/machine.log" 2>&1

step doctor 20 "$bin/reprise" doctor
cat "$results/doctor.log"
step pipes 50 "${sanitizer[@]}" "$bin/pipe_test"
step agents 50 "${sanitizer[@]}" "$bin/agent_test"
step kill 45 "${sanitizer[@]}" "$bin/kill_test" --rounds=2
step two_workers 20 two_workers
step scenarios 45 "$here/scenarios.sh" "$bin/reprise"
for channel in cuda_ipc cuda_basic; do
  step "stock_${channel#cuda_}" 30 beside_stock "$channel" "$bin/gpu_worker"
  step "stock_pair_${channel#cuda_}" 20 beside_stock "$channel" stock
done
if [[ -z ${SANITIZER:-} ]]; then
  step bench 60 "$bin/gpu_bench" "--json=$results/bench.json"
  [[ -e $results/bench.json ]] && cat "$results/bench.log"
fi

echo
printf '%s\n' "${table[@]}" | tee "$results/table.txt"
echo
echo "took $SECONDS s; the logs are in $results"
exit $failed

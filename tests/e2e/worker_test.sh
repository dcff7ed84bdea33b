#!/usr/bin/env bash
# `reprise worker`: a run of three workers that were started one by one, the
# ways to say who they are and which GPU they use, and what goes wrong.
#
# usage: worker_test.sh REPRISE
set -euo pipefail

readonly REPRISE=$PWD/$1
tmp=$(mktemp -d)
pids=()
clean_up() {
  status=$?
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  rm -rf "$tmp"
  exit "$status"
}
trap clean_up EXIT

die() {
  echo "FAILED: $*" >&2
  tail -n 40 "$tmp"/*.err "$tmp"/*.out >&2 || true
  exit 1
}

unset RANK WORLD_SIZE MASTER_ADDR MASTER_PORT SLURM_PROCID SLURM_NTASKS
unset SLURM_JOB_ID SLURM_STEP_ID TORCHELASTIC_RUN_ID LOCAL_RANK SLURM_LOCALID

# start NAME WORDS...: a worker, in the background.
start() {
  local name=$1
  shift
  "$REPRISE" worker --bind 127.0.0.1 "$@" >"$tmp/$name.out" \
    2>"$tmp/$name.err" &
  pids+=($!)
}
# ended NAME PID STATUS
ended() {
  local status=0
  wait "$2" || status=$?
  [[ $status -eq $3 ]] || die "$1 exited with $status, not $3"
}

# Ranks by flag, by name, and from the environment.
start w0 --rank 0 --world-size 3 --store "file://$tmp/s1" --json \
  --trace "$tmp/all.trace"
start w1 --name w1 --world-size 3 --store "file://$tmp/s1"
RANK=2 WORLD_SIZE=3 start w2 --store "file://$tmp/s1"
ended w0 "${pids[0]}" 0
ended w1 "${pids[1]}" 0
ended w2 "${pids[2]}" 0
grep -q '"outcome": "held"' "$tmp/w0.out" || die "no outcome"
grep -q '"clock_error_ms"' "$tmp/w0.out" || die "no clock error"
grep -q '^w1: its own checks: held' "$tmp/w1.out" || die "w1 said nothing"
for rank in 0 1 2; do
  grep -q " n=$rank worker.ended" "$tmp/all.trace" || die "w$rank is missing"
done

# A run id is used once.
start again --rank 1 --world-size 3 --store "file://$tmp/s1"
ended again "${pids[3]}" 2
grep -q "another --run-id" "$tmp/again.err" || die "no hint at --run-id"

# Slurm's variables; flags win over them.
SLURM_PROCID=0 SLURM_NTASKS=2 SLURM_JOB_ID=7 SLURM_STEP_ID=0 \
  start s0 --store "file://$tmp/s1"
SLURM_PROCID=0 SLURM_NTASKS=9 SLURM_JOB_ID=7 SLURM_STEP_ID=0 \
  start s1 --store "file://$tmp/s1" --rank 1 --world-size 2
ended s0 "${pids[4]}" 0
ended s1 "${pids[5]}" 0

# What is missing is listed, all of it.
start lost
ended lost "${pids[6]}" 2
grep -q "no rank" "$tmp/lost.err" || die "the rank is not missed"
grep -q "no store" "$tmp/lost.err" || die "the store is not missed"

# A worker that never comes.
start alone --rank 0 --world-size 2 --store "file://$tmp/s2" \
  --max-wall-seconds 1
ended alone "${pids[7]}" 2
grep -q "worker 1 did not come" "$tmp/alone.err" || die "who is missing?"

# A transport that does not exist.
start nowhere --rank 0 --world-size 1 --store "file://$tmp/s2" --on pigeon
ended nowhere "${pids[8]}" 2
grep -q "pigeon" "$tmp/nowhere.err" || die "the transport is not named"

# A scenario on CPUs needs no GPU, whatever the launcher says.
LOCAL_RANK=7 start oncpu --rank 0 --world-size 1 --store "file://$tmp/s3" \
  --on cuda --json --run-id cpu
ended oncpu "${pids[9]}" 0
grep -A 1 '"devices"' "$tmp/oncpu.out" | grep -q '"cpu"' || die "no devices"
LOCAL_RANK=7 start saysit --rank 0 --world-size 1 --store "file://$tmp/s3" \
  --run-id cpu2
ended saysit "${pids[10]}" 0
grep -q '^w0: tensors are on CPUs: echo puts none' "$tmp/saysit.out" ||
  die "it does not say where its tensors are"

# A scenario on GPUs says what to do where there is none, and takes no place in
# the run.
CUDA_VISIBLE_DEVICES='' LOCAL_RANK=0 start nogpu --rank 0 --world-size 1 \
  --store "file://$tmp/s3" --scenario device_streams --run-id gpu
ended nogpu "${pids[11]}" 2
grep -q "device_streams puts tensors on GPUs, and this process sees none" \
  "$tmp/nogpu.err" || die "the GPU is not missed"
CUDA_VISIBLE_DEVICES='' start badflag --rank 0 --world-size 1 \
  --store "file://$tmp/s3" --device mars --run-id gpu
ended badflag "${pids[12]}" 2
grep -q "it must be a GPU" "$tmp/badflag.err" || die "the flag is not read"
echo PASSED

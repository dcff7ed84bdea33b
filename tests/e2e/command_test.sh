#!/usr/bin/env bash
# The command's manners: exit codes, and errors that say what to do. (JSON has a
# test of its own.)
# usage: command_test.sh REPRISE
set -uo pipefail
reprise=$1
failures=0
export TEST_UNDECLARED_OUTPUTS_DIR=${TEST_UNDECLARED_OUTPUTS_DIR:-$PWD}

expect() { # EXIT_CODE PATTERN ARGUMENT...
  local wanted=$1 pattern=$2
  shift 2
  local output got
  output=$("$reprise" "$@" 2>&1)
  got=$?
  if [[ $got != "$wanted" ]] || ! grep -qE -- "$pattern" <<<"$output"; then
    printf 'FAILED: reprise %s\n  exit code %s, wanted %s; wanted: %s\n%s\n' \
      "$*" "$got" "$wanted" "$pattern" "$output"
    failures=$((failures + 1))
  fi
}

expect 0 'Exit codes' --help
expect 0 '--seeds' explore --help
expect 0 'hold w0-w1 after 1s for 2s' run --help
expect 2 'no subcommand' 
expect 2 'no scenario .nonsense.; there are .*echo' run nonsense
expect 2 'no schedule .x.' run echo --schedule x
expect 2 'context: x not in .*fibers' run echo --context x
expect 2 'runtime: x not in .*real' run echo --runtime x
expect 0 'everything held' run echo --runtime real
expect 0 'under random with the real runtime: 0 failed' \
  explore echo --seeds 2 --runtime real
expect 0 'again, with another clock' verify echo --runtime real
expect 2 'must be name=value' run echo --param x
expect 2 'has (only|no parameters)' run echo --param nonsense=1
expect 2 'one of crash, kill, power' run echo --fault 'explode w1'
expect 2 'a worker, w0 to' run echo --fault 'crash w99 after 1s'
expect 2 'there are sim, shm, uv and cuda' run echo --on mars
expect 2 'give it with --on cuda' run echo --device 0
expect 2 'it must be a GPU' run echo --on cuda --device mars
expect 2 'run it with --on cuda' run device_streams --on uv
expect 0 'tensors are on CPUs: echo puts none on GPUs' run echo --on cuda
expect 2 'cannot read' replay /nonexistent.replay
expect 2 'not a replay file' replay "$reprise"
expect 2 'not a whole number' explore echo --seeds minus-one
expect 2 '' nonsense

# Numbers that are none, or out of their range.
expect 2 "seed: '-1' is not a whole number from 0 to 18446744073709551615" \
  run echo --seed -1
expect 2 "'18446744073709551616' is not a whole number" \
  run echo --seed 18446744073709551616
expect 0 'seed 18446744073709551615: everything held' \
  run echo --seed 18446744073709551615
expect 2 "'0' is not a whole number from 1 to" explore echo --seeds 0
expect 2 "'0' is not a whole number from 1 to" verify echo --seeds 0
expect 2 'not a whole number from 1 to 64' explore echo --jobs 65
expect 2 'not a number from 0 to 1' run echo --switch-probability nan
expect 2 'calls=-5: lifecycle takes values of 0 or more' \
  run lifecycle --param calls=-5
expect 2 'group=0: many takes values from 1 to 1000' run many --param group=0
expect 2 'calls=9223372036854775808: the value must be an integer' \
  run lifecycle --param calls=9223372036854775808
expect 2 'a number from 1 to 100' run echo --workers 0
expect 2 'lifecycle runs with 4 workers only' run lifecycle --workers 5

# Faults that come too late neither strike nor violate anything.
expect 0 'never struck: crash w1 after 1000s' \
  run echo --fault 'crash w1 after 1000s'
expect 0 'never struck: hold w0-w1 after 1000s for 2000s' \
  run echo --fault 'hold w0-w1 after 1000s for 2000s'
expect 0 'struck: pause 1' run echo --fault 'pause w1 when w1 request#1 for 1ms'
expect 0 '^reached: .*nested calls' run lifecycle

# A store for a group.
expect 0 'ended by a signal' store --help
expect 2 '--tcp is required' store
expect 2 'no port; it is HOST:PORT' store --tcp 127.0.0.1
expect 2 'no host' store --tcp :1
expect 2 'the port must be a number from 0 to 65535' store --tcp localhost:65536
expect 2 'must be a number' store --tcp localhost:x
expect 2 'must stand in brackets' store --tcp ::1:0
expect 2 'that is not an address of this machine' store --tcp 192.0.2.1:0
expect 2 'cannot listen on the host no.such.host.invalid' \
  store --tcp no.such.host.invalid:0
expect 2 'not a whole number from 1' store --tcp 127.0.0.1:0 --max-mib 0

# Several explorations by one command.
expect 0 '^pct +5 seeds  held' explore echo --seeds 5 --schedule random,pct
expect 0 '^cooperative workers=2 +3 seeds  held' \
  explore echo --seeds 3 --schedule all --workers 2..3
expect 2 'more than 1000' explore many --param group=1..1000 --workers 1,2
expect 2 'explore takes lists' run many --param group=1,2
expect 2 "echo has only workers=3" explore echo --param nonsense=1..2

# In processes: no hash and no simulated time, and many seeds.
expect 0 'echo seed 1 on uv: everything held; [0-9]+ events in [0-9.]+ s$' \
  run echo --on uv
expect 0 'echo on shm: 2 seeds from 1: 0 failed' \
  explore echo --on shm --seeds 2
expect 1 'seed 1 fails on uv, and 1 more in the same way' \
  explore lifecycle --on uv --seeds 2 --keep-going --max-wall-seconds 1 \
  --param idle_ms=100000
expect 0 '^reprise [^ ]+, build [0-9a-f]+, .*, with(out)? CUDA' --version

# A trace to standard output, and nowhere else.
# (Not grep -q, which would not read it all.)
"$reprise" run echo --trace - | grep '^t=[0-9]* n=0 worker.ended' >/dev/null &&
  [[ ! -e - ]] || {
  echo "FAILED: --trace -"
  failures=$((failures + 1))
}
expect 0 'everything held' run echo --seed 3
expect 0 'echo seed 3: hash' verify echo --seed 3
expect 0 '0 failed' explore echo --seeds 20 --jobs 2
expect 0 'stopped after 0.2 s, with [0-9]+ of 100000000 seeds run' \
  explore echo --seeds 100000000 --seconds 0.2
expect 0 'everything held' run echo --seed 3 --in-process
# AddressSanitizer needs a stack to report an overflow.
if [[ -z ${ASAN_OPTIONS-} ]]; then
  expect 1 'VIOLATED stack-overflow' run echo --seed 3 --stack-kib 4
fi
expect 0 'basic' doctor

# Without a GPU, whatever the machine has.
export CUDA_VISIBLE_DEVICES=
expect 2 'device_streams puts tensors on GPUs, and this process sees none: .*reprise doctor' \
  run device_streams --on cuda
expect 2 '--device cuda:0: this process sees no GPU: ' run echo --on cuda --device 0
unset CUDA_VISIBLE_DEVICES

# The scenario lists faults and coverage probes that cannot come without faults.
expect 4 'INCONCLUSIVE' explore peer_dies --seeds 200 --no-faults

printf 'reprise replay 1\nscenario gone\nseed 1\nend\n' >gone.replay
expect 2 'no scenario .gone.' replay gone.replay
printf 'reprise replay 1\nscenario echo\nseed 1\n' >cut.replay
expect 2 'cut off' replay cut.replay
printf 'reprise replay 1\nscenario echo\nseed 1\ndecision x\nend\n' >bad.replay
expect 2 'line 4 makes no sense' replay bad.replay
printf 'reprise replay 1\nscenario echo\nseed 1\nbuild 0\nhash 0\nrule x\ndecision w0 lock:Gone#1 switch 1\nend\n' >old.replay
expect 5 'NOT REPRODUCED.*left the recording at: w0 lock:Gone#1 switch 1' replay old.replay
expect 5 'nor around it in 12 variants .*no proof' replay old.replay --variants 12
printf 'reprise replay 2\nscenario echo\nseed 1\nend\n' >without_rule.replay
expect 0 'everything held; the file names no rule' replay without_rule.replay
printf 'reprise replay 2\nscenario echo\nseed 1\nsched random\nend\n' >word.replay
expect 2 "line 4 makes no sense: .* no line .sched." replay word.replay
printf 'reprise replay 2\nscenario echo\n\nparam calls 1\nseed 1\nend\n' >param.replay
expect 2 "line 4: echo has no parameter .calls." replay param.replay

# No failure is lost because its file cannot be written.
mkdir -p unwritable/echo-1.replay.partial/full
expect 1 'this is its text' explore echo --fault 'crash w1 after 1ms' --seeds 1 --out unwritable
expect 1 '"replay_text"' explore echo --fault 'crash w1 after 1ms' --seeds 1 --out unwritable --json
if "$reprise" list >/dev/full 2>full.txt || ! grep -q 'standard output' full.txt; then
  printf 'FAILED: a full standard output was not noticed\n'
  failures=$((failures + 1))
fi

# A recorded failure, edited: it is run as what it says.
"$reprise" explore echo --fault 'crash w1 after 1ms' --seeds 1 --out recorded >/dev/null
expect 1 'happened again, event for event' replay recorded/echo-1.replay
sed 's/^fault .*//' recorded/echo-1.replay >edited.replay
expect 0 'everything held in the file as it was edited' replay edited.replay

# A network that is given by a file: a call to a peer 50 ms away is not quick.
printf '# far away\nlink w0,w1-w2 latency 50ms\n' >far.topology
"$reprise" explore slow_peer --topology far.topology --seeds 1 --out far >far.txt
expect 1 'topology: link w0,w1-w2 latency 50ms' replay far/slow_peer-1.replay
expect 1 'event for event' replay far/slow_peer-1.replay
sed 's/^topology .*//' far/slow_peer-1.replay >near.replay
expect 0 'everything held in the file as it was edited' replay near.replay
expect 0 '"link w0,w1-w2 latency 50ms"' run echo --topology far.topology --json
printf 'link w0-w1 latency 1ms\n\nlink w0-w1 colour 1\n' >wrong.topology
expect 2 'wrong.topology: line 3: .*colour where there should be' \
  run echo --topology wrong.topology
expect 2 'cannot read it: No such file' run echo --topology nowhere
expect 2 'cannot read it: Is a directory' run echo --topology .
expect 2 'without --on uv' run echo --topology far.topology --on uv

# A file that is kept must hold.
expect 0 'kept as kept/echo-1.replay' keep recorded/echo-1.replay --to kept
expect 2 'exists already' keep recorded/echo-1.replay --to kept
expect 1 'violated' replay kept/echo-1.replay
expect 0 'kept as kept/held.replay' keep edited.replay --to kept --as held
expect 0 'as the file expects; so did 8 variants' replay kept/held.replay --variants 8

# One seed, one hash; another seed, another.
hash_of() { "$reprise" run echo --seed "$1" --json | grep '"hash"'; }
[[ $(hash_of 5) == "$(hash_of 5)" ]] || { echo "FAILED: hashes differ"; failures=$((failures + 1)); }
[[ $(hash_of 5) != "$(hash_of 6)" ]] || { echo "FAILED: hashes agree"; failures=$((failures + 1)); }

# An exploration that is interrupted says what it has seen.
"$reprise" explore echo --seeds 100000000 >interrupted.txt 2>progress.txt &
for _ in $(seq 600); do
  [[ -s progress.txt ]] && break
  sleep 0.1
done
kill -INT $!
wait $!
got=$?
if [[ $got != 4 ]] ||
  ! grep -q 'INCONCLUSIVE: interrupted, with [0-9]* of 100000000 seeds' interrupted.txt; then
  echo "FAILED: interrupted exploration, exit code $got: $(cat interrupted.txt)"
  failures=$((failures + 1))
fi

# A run in processes that is interrupted leaves nothing behind.
mkdir scratch
TMPDIR=$PWD/scratch "$reprise" run lifecycle --on uv >/dev/null 2>&1 &
for _ in $(seq 600); do
  [[ -n $(ls scratch) ]] && break
  sleep 0.1
done
kill -TERM $!
wait $!
got=$?
[[ $got == 143 && -z $(ls scratch) ]] || {
  echo "FAILED: interrupted, exit code $got, left: $(ls scratch)"
  failures=$((failures + 1))
}

((failures == 0)) && echo PASSED
exit $((failures != 0))

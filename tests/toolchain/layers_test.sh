#!/usr/bin/env bash
# tools/check_layers.py accepts a small tree and finds each violation that is
# planted in it.
set -euo pipefail

check=$1
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

reset() {
  rm -rf "${tree:?}"/*
  mkdir -p "$tree"/{agent/{runtime,client},sim/trace,fault_injection,tools,tests}
  echo '#include "agent/runtime/timer.h"' >"$tree/agent/client/peer.cc"
  touch "$tree/agent/runtime/timer.h"
  echo 'srcs = ["peer.cc"]' >"$tree/agent/client/BUILD"
  echo 'hdrs = ["timer.h"]' >"$tree/agent/runtime/BUILD"
}

expect() {
  local wanted=$1 output
  if output=$("$check" "$tree"); then
    printf 'not found: %s\n' "$wanted"
    exit 1
  fi
  if [[ $output != *"$wanted"* ]]; then
    printf 'wanted: %s\ngot: %s\n' "$wanted" "$output"
    exit 1
  fi
}

reset
"$check" "$tree"

echo '#include "agent/client/peer.h"' >"$tree/agent/runtime/timer.h"
expect 'agent/runtime/timer.h:1: agent/runtime includes agent/client/peer.h'

reset
echo '#include "tests/scenarios/calls.h"' >"$tree/agent/client/peer.cc"
expect 'tests/scenarios/calls.h is on no floor below agent/client'

reset
touch "$tree/agent/client/forgotten.cc"
expect 'agent/client/forgotten.cc: in no target of agent/client/BUILD'

reset
echo 'srcs = ["peer.cc", "gone.cc"]' >"$tree/agent/client/BUILD"
expect 'agent/client/BUILD: gone.cc is not in this folder'

reset
mkdir "$tree/agent/attic"
echo '#include "agent/runtime/timer.h"' >"$tree/agent/attic/old.cc"
expect 'the folder agent/attic is on no floor'

reset
seq 501 >"$tree/tests/long.cc"
expect 'tests/long.cc: 501 lines, more than 500'

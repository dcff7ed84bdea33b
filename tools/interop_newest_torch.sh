#!/usr/bin/env bash
# Runs our agent in groups with the newest PyTorch, which setup.sh installs.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: tools/interop_newest_torch.sh [--all]
       tools/interop_newest_torch.sh --help

Makes static groups of a PyTorch worker in Python and one of ours, on this
machine's CPUs, and compares each byte that they send each other: tensors of all
types that this PyTorch has, views, shared storages, errors, timeouts, 5,000
calls at once, the barrier. Then makes dynamic groups, in which workers come, go,
die and call each other's functions. tools/setup.sh --with-torch installs the
PyTorch.

  --all   a group for each of PyTorch's stores and ours, each transport and
          channel, and both ids, with tensors of up to 64 MiB: some minutes
  --help  this text

Set PYTHON to another interpreter that has PyTorch, to try that one. Exits with 1
if anything differs.
USAGE
}

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
arguments=()
for argument in "$@"; do
  case "$argument" in
    --all) arguments+=(--all) ;;
    -h | --help)
      usage
      exit 0
      ;;
    *)
      usage >&2
      printf 'unknown argument: %s\n' "$argument" >&2
      exit 2
      ;;
  esac
done

python=${PYTHON:-$top/.cache/torch/bin/python3}
if [[ ! -x $python ]]; then
  printf 'there is no %s: run tools/setup.sh --with-torch, or set PYTHON\n' \
    "$python" >&2
  exit 2
fi
cd "$top"
bazel build --noshow_progress //tests/interop:python_peer //tools:reprise \
  //tests/python:group_test
# PyTorch warns that there is no NumPy, which nothing here needs.
"$python" -W ignore tests/interop/python_group.py \
  --peer bazel-bin/tests/interop/python_peer \
  --reprise bazel-bin/tools/reprise "${arguments[@]}"
cd bazel-bin/tests/python/group_test.runfiles/reprise
REPRISE_TEST_PYTHON=$python exec tests/python/group_test

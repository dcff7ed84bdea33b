#!/usr/bin/env bash
# Groups of ours with a worker of Debian's PyTorch in Python.
set -uo pipefail

/usr/bin/python3 -W ignore "$1" --peer "$2"
status=$?
# Where there is libtorch, there need not be its Python.
[[ $status -ne 77 ]] || exit 0
exit "$status"

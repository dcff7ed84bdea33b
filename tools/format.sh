#!/usr/bin/env bash
# Formats the C++ sources (.clang-format); --check only says what would change.
# usage: tools/format.sh [--check] [FILE...]     default: every tracked file
set -euo pipefail

mode=(-i)
if [[ ${1:-} == --check ]]; then
  mode=(--dry-run -Werror)
  shift
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ $# -eq 0 ]]; then
  mapfile -t files < <(git ls-files '*.h' '*.cc' '*.cu' '*.cuh')
  set -- "${files[@]}"
fi
if [[ $# -eq 0 ]]; then
  exit 0
fi
exec clang-format-14 "${mode[@]}" "$@"

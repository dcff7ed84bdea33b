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
  tracked=$(git -c safe.directory="$PWD" ls-files '*.h' '*.cc' '*.cu' '*.cuh')
  mapfile -t files <<<"$tracked"
  set -- "${files[@]}"
fi
exec clang-format-14 "${mode[@]}" "$@"

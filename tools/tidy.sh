#!/usr/bin/env bash
# Runs clang-tidy (.clang-tidy) after refreshing compile_commands.json.
# usage: tools/tidy.sh [FILE.cc...]     default: every tracked .cc file
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
tools/compile_commands.py
if [[ $# -eq 0 ]]; then
  tracked=$(git -c safe.directory="$PWD" ls-files '*.cc' ':!tests/outside')
  mapfile -t files <<<"$tracked"
  set -- "${files[@]}"
fi
printf '%s\0' "$@" |
  xargs -0 -n 1 -P "$(nproc)" clang-tidy-14 -p . --quiet

#!/usr/bin/env bash
# Builds and tests tests/outside, a workspace that depends on this one as a
# user's would. Not a Bazel test: it runs Bazel.
# usage: tests/outside_workspace_test.sh [OPTION OF bazel test]...
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/outside"
bazel test --keep_going "$@" //...
status=$?
bazel shutdown
exit "$status"

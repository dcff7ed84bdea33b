#!/usr/bin/env bash
# A kept replay file, and variants of it, hold (replay_test.bzl).
# usage: replay_test.sh REPRISE FILE VARIANTS
set -uo pipefail
exec "$1" replay "$2" --variants "$3"

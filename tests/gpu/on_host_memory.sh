#!/usr/bin/env bash
# Runs a program of this folder on a GPU that is made of host memory.
# usage: on_host_memory.sh PROGRAM [FLAG...]
exec "$@" --fake

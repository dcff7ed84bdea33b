#!/usr/bin/env bash
# The bundle is small enough, brings its libraries, and says what it skips.
# usage: bundle_test.sh ARCHIVE
set -uo pipefail
archive=$1
scratch=$(mktemp -d "${TEST_TMPDIR:-/tmp}/bundle.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
failures=0
fail() {
  echo "FAILED: $*"
  failures=$((failures + 1))
}

(($(stat -Lc %s "$archive") <= 60 << 20)) || fail "the archive has over 60 MiB"
tar -xzf "$archive" -C "$scratch" || fail "the archive cannot be unpacked"
top=$scratch/reprise_gpu

# Of the machine it takes the C library only, whatever else is installed.
of_the_c_library='^(linux-vdso.*|.*ld-linux-.*|lib(c|m|dl|rt|pthread|resolv|util|anl)\.so.*)$'
for file in "$top"/bin/*; do
  while read -r name arrow path _; do
    if [[ $arrow == '=>' && $path == not ]]; then
      fail "$(basename "$file") does not find $name"
    elif [[ ! $name =~ $of_the_c_library && $path != "$top"/* ]]; then
      fail "$(basename "$file") takes $name from this machine: $path"
    fi
  done < <(env -i ldd "$file")
done

# Nothing is newer than what Ubuntu 24.04's C library, 2.39, has.
newest=$(for file in "$top"/bin/* "$top"/lib/*; do objdump -T "$file"; done |
  grep -o 'GLIBC_2\.[0-9]*' | sort -uV | tail -n 1)
[[ $(printf '%s\nGLIBC_2.39\n' "$newest" | sort -V | tail -n 1) == GLIBC_2.39 ]] ||
  fail "$newest is needed"

if [[ -e /dev/nvidiactl ]]; then
  echo "this machine has a GPU: run $archive by hand"
else
  output=$(cd / && env -i PATH=/usr/bin:/bin TMPDIR="$scratch" \
    "$top/run.sh" "$scratch/results" 2>&1)
  code=$?
  [[ $code == 0 ]] || fail "run.sh ended with exit code $code"
  for step in pipes agents kill two_workers scenarios stock_ipc stock_basic bench; do
    grep -qE "^$step +[0-9]+ s  skipped  .*[a-z]{2}" <<<"$output" ||
      fail "no reason why $step is skipped"
  done
  grep -qE '^doctor +[0-9]+ s  passed' <<<"$output" || fail "no doctor"
  grep -q 'there is no NVIDIA driver' <<<"$output" || fail "no reason at all"
  ((failures == 0)) || echo "$output"
fi

((failures == 0)) && echo PASSED
exit $((failures != 0))

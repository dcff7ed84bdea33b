#!/usr/bin/env bash
# Packs programs, the libraries that they need, and what runs them.
# usage: make_bundle.sh ARCHIVE RUN.SH SCENARIOS.SH STOCK_WORKER.PY PROGRAM...
#
# All but the C library comes along: it must be the newer one of the two
# machines' at the target, and it is where this is built on Debian 12 and run on
# a later system.
set -euo pipefail

archive=$1 run=$2 scenarios=$3 stock_worker=$4
shift 4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
top=$work/reprise_gpu
mkdir -p "$top/bin" "$top/lib"

of_the_c_library='^(ld-linux-.*|lib(c|m|dl|rt|pthread|resolv|util|anl)\.so.*)$'
for program in "$@"; do
  cp -L "$program" "$top/bin/"
  chmod u+w "$top/bin/$(basename "$program")"
  while read -r name arrow path _; do
    [[ $arrow == '=>' && -f $path ]] || continue
    [[ $name =~ $of_the_c_library ]] && continue
    [[ -e $top/lib/$name ]] || cp -L "$path" "$top/lib/$name"
  done < <(ldd "$program")
done
for file in "$top"/bin/* "$top"/lib/*; do
  chmod u+w "$file"
  strip --strip-unneeded "$file"
done
cp -L "$run" "$top/run.sh"
cp -L "$scenarios" "$top/scenarios.sh"
cp -L "$stock_worker" "$top/stock_worker.py"
chmod 755 "$top"/*.sh "$top/stock_worker.py" "$top"/bin/*
# The same archive from the same files.
tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 \
  -cf - reprise_gpu | gzip -9n >"$archive"

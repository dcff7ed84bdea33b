#!/usr/bin/env bash
# `reprise store` serves workers, and ends as a service should.
# usage: store_command_test.sh REPRISE
set -uo pipefail
reprise=$1
out=${TEST_TMPDIR:-$PWD}/store_command
mkdir -p "$out"
failures=0

fail() {
  printf 'FAILED: %s\n' "$*"
  failures=$((failures + 1))
}

# start ARGUMENT...: runs a store in the background, and waits for its line.
# Sets `store` to its process and `line` to what it said.
start() {
  local fifo=$out/fifo
  rm -f "$fifo"
  mkfifo "$fifo"
  "$reprise" store "$@" >"$fifo" 2>"$out/log" &
  store=$!
  IFS= read -r line <"$fifo"
}

# stop SIGNAL: it ends with 0.
stop() {
  kill -s "$1" "$store"
  wait "$store"
  local code=$?
  [[ $code == 0 ]] || fail "exit code $code after SIG$1: $(cat "$out/log")"
  grep -q "ends by SIG$1" "$out/log" || fail "no word of SIG$1: $(cat "$out/log")"
}

# Two workers meet in it.
start --tcp 127.0.0.1:0
url=$(grep -o 'tcp://127.0.0.1:[0-9]*' <<<"$line") || fail "no URL: $line"
for rank in 0 1; do
  "$reprise" worker --scenario echo --bind 127.0.0.1 --rank $rank \
    --world-size 2 --store "$url" >"$out/worker$rank" 2>&1 &
  workers[rank]=$!
done
for rank in 0 1; do
  wait "${workers[rank]}" || fail "worker $rank: $(cat "$out/worker$rank")"
done
grep -q 'everything held' "$out/worker0" || fail "$(cat "$out/worker0")"

# Its port is taken; another store says so, and does not disturb it.
"$reprise" store --tcp "${url#tcp://}" >"$out/second" 2>&1
[[ $? == 2 ]] || fail "a second store on the port: $(cat "$out/second")"
grep -q 'another program listens there' "$out/second" ||
  fail "a second store on the port: $(cat "$out/second")"

# What a client says that is none ends up in the log, and the store goes on.
port=${url##*:}
exec 3<>"/dev/tcp/127.0.0.1/$port"
printf 'GET / HTTP/1.1\r\n\r\n' >&3
[[ -z $(cat <&3) ]] || fail "an answer to HTTP"
exec 3>&-
grep -q "its byte 71 is not a query" "$out/log" || fail "$(cat "$out/log")"

# A client that is connected does not hold up the end.
exec 3<>"/dev/tcp/127.0.0.1/$port"
stop TERM
exec 3>&-

start --tcp 127.0.0.1:0
stop INT

if [[ -e /proc/net/if_inet6 ]] && grep -q ' lo$' /proc/net/if_inet6; then
  start --tcp '[::1]:0'
  grep -q 'tcp://\[::1\]:[0-9]' <<<"$line" || fail "IPv6: $line"
  stop TERM
fi

((failures == 0)) && echo PASSED
exit $((failures != 0))

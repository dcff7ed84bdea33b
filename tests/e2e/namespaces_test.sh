#!/usr/bin/env bash
# `reprise worker` over three network namespaces and a redis-server in a fourth,
# which is their switch. The link of w2 is cut while they call each other, and
# healed: calls are UNAVAILABLE within the keepalive bound meanwhile, whatever
# their timeout, and work again without a restart.
#
# usage: namespaces_test.sh REPRISE
#
# Exits with 0 and says SKIPPED where namespaces may not be made or there is no
# redis-server.
set -euo pipefail

readonly REPRISE=$PWD/$1
# The bound is 6 s (`process_params` of the scenario).
readonly CUT_AFTER=2 CUT_FOR=10 DURATION_MS=20000
tmp=$(mktemp -d)
# Unique per run, and short: names of interfaces have 15 characters.
readonly ID=$$
readonly HUB=reprise-hub-$ID
pids=()

clean_up() {
  status=$?
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  for rank in 0 1 2; do ip netns del "reprise-w$rank-$ID" 2>/dev/null || true; done
  ip netns del "$HUB" 2>/dev/null || true
  rm -rf "$tmp"
  exit "$status"
}
trap clean_up EXIT

skip() {
  echo "SKIPPED: $*"
  exit 0
}
die() {
  echo "FAILED: $*" >&2
  for log in "$tmp"/*.log; do
    echo "--- $log" >&2
    tail -n 30 "$log" >&2
  done
  exit 1
}

command -v ip >/dev/null || skip "there is no ip (Debian package iproute2)"
# The server's program, under the name that it has in redis-tools.
readonly REDIS=/usr/bin/redis-check-rdb
[[ -x $REDIS ]] || skip "there is no redis-server (Debian package redis-tools)"
why=$(ip netns add "$HUB" 2>&1) || skip "no namespace can be made: $why"
why=$(ip -n "$HUB" link add switch type bridge 2>&1) ||
  skip "no bridge can be made: $why"

ip -n "$HUB" address add 10.83.0.254/24 dev switch
ip -n "$HUB" link set switch up
ip -n "$HUB" link set lo up
for rank in 0 1 2; do
  node=reprise-w$rank-$ID
  ip netns add "$node"
  ip -n "$HUB" link add "port$rank" type veth peer name eth0 netns "$node" ||
    skip "no veth can be made"
  ip -n "$HUB" link set "port$rank" master switch up
  ip -n "$node" address add "10.83.0.$((rank + 1))/24" dev eth0
  ip -n "$node" link set eth0 up
  ip -n "$node" link set lo up
done

ip netns exec "$HUB" bash -c 'exec -a redis-server "$0" "$@"' "$REDIS" \
  --bind 10.83.0.254 --port 6379 --save '' --dir "$tmp" \
  --protected-mode no >"$tmp/redis.log" 2>&1 &
pids+=($!)

for _ in $(seq 300); do
  grep -q "Ready to accept connections" "$tmp/redis.log" && break
  sleep 0.1
done

# Ranks come as a scheduler gives them. The log tells when calls begin.
workers=()
for rank in 0 1 2; do
  GLOG_v=1 RANK=$rank WORLD_SIZE=3 ip netns exec "reprise-w$rank-$ID" "$REPRISE" \
    worker --scenario link_cut --store redis://10.83.0.254:6379/0 \
    --run-id "namespaces-$ID" --bind "10.83.0.$((rank + 1))" \
    --param "duration_ms=$DURATION_MS" --max-wall-seconds 90 \
    --trace "$tmp/w$rank.trace" --json \
    >"$tmp/w$rank.json" 2>"$tmp/w$rank.log" &
  workers+=($!)
  pids+=($!)
done

for _ in $(seq 600); do
  grep -q "connecting to w2" "$tmp/w0.log" &&
    grep -q "connecting to w2" "$tmp/w1.log" && break
  sleep 0.1
done
sleep "$CUT_AFTER"
ip -n "$HUB" link set port2 down
sleep "$CUT_FOR"
ip -n "$HUB" link set port2 up

for rank in 0 1 2; do
  status=0
  wait "${workers[$rank]}" || status=$?
  cat "$tmp/w$rank.json" >"$tmp/w$rank.out.log"
  [[ $status -eq 0 ]] || die "w$rank exited with $status"
done

grep -q '"outcome": "held"' "$tmp/w0.json" || die "w0 saw a violation"
grep -q '"coordinator": true' "$tmp/w0.json" || die "w0 did not coordinate"
# The trace of w0 is that of all: the cut was seen at both ends, and healed.
# notes RANK TEXT: how often worker RANK noted it.
notes() { grep -c " n=$1 note .* $2" "$tmp/w0.trace" || true; }
for seen in "0 w2" "1 w2" "2 w0" "2 w1"; do
  read -r caller callee <<<"$seen"
  [[ $(notes "$caller" "$callee fails after .*: UNAVAILABLE: .*no sign of life") -ge 1 ]] ||
    die "w$caller did not notice that the link to $callee was cut"
  [[ $(notes "$caller" "$callee works again") -ge 1 ]] ||
    die "w$caller does not reach $callee again"
done
[[ $(notes 0 "w1 fails") -eq 0 ]] || die "w0 lost w1, whose link was whole"
grep ' note ' "$tmp/w0.trace"
echo "PASSED: cut for $CUT_FOR s"

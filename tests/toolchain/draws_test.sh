#!/usr/bin/env bash
# tools/check_draws.py accepts a scenario that draws as it should, and finds
# each violation that is planted in it.
set -euo pipefail

check=$1
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

accept() {
  cat >"$tree/scenario.cc"
  "$check" "$tree/scenario.cc" || { echo "FAILED: refused"; exit 1; }
}

refuse() {
  local wanted=$1 output
  cat >"$tree/scenario.cc"
  if output=$("$check" "$tree/scenario.cc"); then
    printf 'FAILED: not found: %s\n' "$wanted"
    exit 1
  fi
  if [[ $output != *"$wanted"* ]]; then
    printf 'FAILED: wanted: %s\ngot: %s\n' "$wanted" "$output"
    exit 1
  fi
}

accept <<'EOF'
std::string Pick(Draws& random, DrawName name) {
  return "w" + std::to_string(random.Below(name, 3));
}
std::string Pair(Draws random) {
  return Pick(random, "first") + Pick(random, "second");
}
class Caller {
 public:
  void Run() {
    for (int i = 0; i < 3; ++i) Send(AnyPeer(), Size());
    calls_ = {[this] { AnyPeer(); }, [this] { AnyPeer(); }};
  }

 private:
  int AnyPeer() { return random_.Below("peer", 3); }
  int Size() { return random_.Below("size", 3); }
  Draws random_;
};
class Other {
  int AnyPeer() { return random_.Below("peer", 3); }
  Draws random_;
};
std::vector<std::string> Faults(Draws random, const Params&) {
  if (random.OneIn("none", 2)) return {};
  return {Pair(random.Part("a")) + Pair(random.Part("b"))};
}
EOF

refuse 'scenario.cc:2: "a" is drawn a second time; the first is in line 2' <<'EOF'
void Run(Draws random) {
  Send(random.Below("a", 3), random.Below("a", 3));
}
EOF

refuse 'scenario.cc:3: "a" is drawn a second time; the first is in line 2' <<'EOF'
class Caller {
  int Peer() { return random_.Below("a", 3); }
  int Other() { return random_.Below("a", 3); }
  Draws random_;
};
EOF

refuse 'scenario.cc:2: "a" is drawn a second time' <<'EOF'
void Run(Draws random) {
  Send(DrawDuration(random, "a", kLong), random.Part("a"));
}
EOF

refuse 'scenario.cc:1: a function that draws takes a Draws by value' <<'EOF'
int Peer(Draws& random) { return random.Below("peer", 3); }
EOF

refuse 'scenario.cc:2: Peer draws "peer", and so does Peer' <<'EOF'
class Caller {
  void Run() { Send(Peer(), Peer()); }
  int Peer() { return random_.Below("peer", 3); }
  Draws random_;
};
EOF

refuse 'scenario.cc:4: Size draws "peer", and so does Peer' <<'EOF'
class Caller {
  int Peer() { return random_.Below("peer", 3); }
  int Size() { return Peer() + 1; }
  void Run() { Send({.to = Peer()}, [this] { return 1; }, Size()); }
  Draws random_;
};
EOF

refuse 'scenario.cc:3: peer draws "peer", and so does peer' <<'EOF'
void Run(Draws random) {
  const auto peer = [&] { return random.Below("peer", 3); };
  Send(peer(), peer());
}
EOF

refuse 'scenario.cc:1: mt19937: it differs between libraries' <<'EOF'
void Run() { std::mt19937 random(1); }
EOF

refuse 'scenario.cc:1: rand() is not of the run' <<'EOF'
int Run() { return rand() % 3; }
EOF

accept <<'EOF'
int Run() { return rand() % 3; }  // NOLINT(draws)
EOF

echo "PASSED"

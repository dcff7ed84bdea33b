#include "sim/network/links.h"

#include <algorithm>

#include "sim/network/endpoint.h"
#include "sim/random.h"

namespace reprise {
namespace {

// Orders the events of wires among simultaneous ones: after those of all
// connections that workers make.
constexpr uint64_t kWireSource = uint64_t{0xfffe} << 33;

bool Contains(const std::vector<int32_t>& ranks, int32_t rank) {
  return std::find(ranks.begin(), ranks.end(), rank) != ranks.end();
}

}  // namespace

LinkOptions Links::OptionsOf(int32_t from, int32_t to) const {
  LinkOptions link = from != to && options_.HostOf(from) == options_.HostOf(to)
                         ? options_.loopback
                         : static_cast<const LinkOptions&>(options_);
  for (const LinkRule& rule : options_.rules) {
    const bool forth = Contains(rule.from, from) && Contains(rule.to, to);
    const bool back = Contains(rule.from, to) && Contains(rule.to, from);
    if (!forth && (rule.one_way || !back)) continue;
    if (rule.latency_ns >= 0) link.latency_min_ns = rule.latency_ns;
    if (rule.jitter_ns >= 0) link.latency_spread_ns = rule.jitter_ns;
    if (rule.bytes_per_second > 0) {
      link.bytes_per_second = rule.bytes_per_second;
    }
    if (rule.loss_one_in >= 0) link.loss_one_in = rule.loss_one_in;
  }
  return link;
}

void Links::Hold(int32_t from, int32_t to, int64_t until_ns) {
  int64_t& held_until_ns = held_until_ns_[{from, to}];
  held_until_ns = std::max(held_until_ns, until_ns);
}

int64_t Links::HeldUntil(int32_t from, int32_t to) {
  const auto it = held_until_ns_.find({from, to});
  if (it == held_until_ns_.end() || it->second <= world_.now_ns()) return 0;
  const int64_t until_ns = it->second;
  injected_(
      until_ns == Scheduler::kNever ? FaultKind::kPartition : FaultKind::kHold,
      from, to);
  return until_ns;
}

bool Links::IsTooLate(int64_t held_until_ns) const {
  return held_until_ns - world_.now_ns() > kRetransmissionTimeoutNs;
}

bool Links::IsSilent(int32_t from, int32_t to) const {
  const auto it = held_until_ns_.find({from, to});
  return it != held_until_ns_.end() && IsTooLate(it->second);
}

void Links::Delay(int32_t from, int32_t to, int64_t delay_ns,
                  int64_t until_ns) {
  slow_[{from, to}] = {delay_ns, until_ns};
}

int64_t Links::ExtraLatency(int32_t from, int32_t to) {
  const auto it = slow_.find({from, to});
  if (it == slow_.end() || it->second.until_ns <= world_.now_ns()) return 0;
  const int64_t delay_ns = it->second.delay_ns;
  injected_(FaultKind::kDelay, from, to);
  return delay_ns;
}

void Links::CutAfter(int32_t from, int32_t to, int64_t byte, BreakKind kind) {
  cuts_[{from, to}] = {byte, kind};
}

bool Links::TakeCut(int32_t from, int32_t to, size_t bytes, BreakKind& kind) {
  const auto it = cuts_.find({from, to});
  if (it == cuts_.end()) return false;
  it->second.bytes_left -= static_cast<int64_t>(bytes);
  if (it->second.bytes_left > 0) return false;
  kind = it->second.kind;
  cuts_.erase(it);
  injected_(FaultKind::kCut, from, to);
  return true;
}

void Corruption::Spoil(std::vector<uint8_t>& frame) const {
  const uint64_t size = frame.size();
  if (is_short) {
    frame.resize(static_cast<size_t>(Below(bits, size)));
  } else {
    const uint64_t bit = Below(bits, size * 8);
    frame[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
  }
}

void Links::CorruptNext(int32_t from, int32_t to, const Corruption& how) {
  corruptions_[{from, to}] = how;
}

void Links::MaySpoil(int32_t from, int32_t to, std::vector<uint8_t>& frame) {
  const auto it = corruptions_.find({from, to});
  if (it == corruptions_.end() || frame.empty()) return;
  it->second.Spoil(frame);
  corruptions_.erase(it);
  injected_(FaultKind::kCorrupt, from, to);
}

int64_t Links::TransferNs(int32_t from, int32_t to, int64_t bytes) const {
  return static_cast<int64_t>(static_cast<__int128>(bytes) * 1'000'000'000 /
                              OptionsOf(from, to).bytes_per_second);
}

int64_t Links::PieceBytes(int32_t from, int32_t to) const {
  constexpr int64_t kSmallest = 4 << 10;
  constexpr int64_t kLargest = 64 << 10;
  return std::clamp(OptionsOf(from, to).bytes_per_second / 64, kSmallest,
                    kLargest);
}

Links::Wire& Links::WireOf(int32_t from, int32_t to) {
  return wires_
      .try_emplace(std::pair(options_.HostOf(from), options_.HostOf(to)),
                   Wire{wires_.size()})
      .first->second;
}

bool Links::MayTransmit(Endpoint& sender) {
  const int32_t from = sender.node().rank;
  const int32_t to = sender.remote_rank();
  Wire& wire = WireOf(from, to);
  // What is on the wire already may take as long as a piece, so that a few
  // small frames need no turns.
  const int64_t slack_ns = TransferNs(from, to, PieceBytes(from, to));
  if (wire.waiting.empty() && wire.free_ns - world_.now_ns() < slack_ns) {
    return true;
  }
  wire.waiting.push_back(sender.shared_from_this());
  Arm(wire);
  return false;
}

int64_t Links::Transmit(const Endpoint& sender, int64_t bytes) {
  const int32_t from = sender.node().rank;
  Wire& wire = WireOf(from, sender.remote_rank());
  wire.free_ns = std::max(wire.free_ns, world_.now_ns()) +
                 TransferNs(from, sender.remote_rank(), bytes);
  return wire.free_ns;
}

void Links::Arm(Wire& wire) {
  if (wire.is_armed) return;
  wire.is_armed = true;
  world_.At(wire.free_ns, {kWireSource + wire.number, wire.events++},
            [this, &wire] { GiveTurns(wire); });
}

void Links::GiveTurns(Wire& wire) {
  wire.is_armed = false;
  while (!wire.waiting.empty() && wire.free_ns <= world_.now_ns()) {
    const std::shared_ptr<Endpoint> next = std::move(wire.waiting.front());
    wire.waiting.pop_front();
    next->TakeTurn();
  }
  if (!wire.waiting.empty()) Arm(wire);
}

}  // namespace reprise

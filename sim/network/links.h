// The links between the nodes of a simulated network: how long something takes
// over each, what a link holds back, and whose turn it is to send.
//
// A link is one direction between two ranks, whatever incarnation of a worker
// is alive. Its bandwidth is that of a wire, which all links between the same
// two hosts share: connections send on it in turns, a piece each.

#ifndef REPRISE_SIM_NETWORK_LINKS_H_
#define REPRISE_SIM_NETWORK_LINKS_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "fault_injection/fault_kind.h"
#include "sim/network/options.h"
#include "sim/world/world.h"

namespace reprise {

class Endpoint;

enum class BreakKind : uint8_t {
  kReset,        // both ends fail with ECONNRESET; what flies is lost
  kEndOfStream,  // what flies arrives first, then the end of the stream
};

// What happens to the bytes of a frame on its way.
struct Corruption {
  bool is_short;  // its last bytes are missing; else one bit is another
  uint64_t bits;  // random: which bit, or how many bytes

  // The frame must not be empty.
  void Spoil(std::vector<uint8_t>& frame) const;
};

// Not thread-safe: it is used by whoever runs in the world.
class Links {
 public:
  using Injected = std::function<void(FaultKind, int32_t, int32_t)>;

  // `injected` is called each time when a fault of a link has an effect.
  Links(World& world, const NetworkOptions& options, Injected injected)
      : world_(world), options_(options), injected_(std::move(injected)) {}

  LinkOptions OptionsOf(int32_t from, int32_t to) const;

  // Faults. What is held until kNever never arrives. Of two holds of a link the
  // longer one counts.
  void Hold(int32_t from, int32_t to, int64_t until_ns);
  void Delay(int32_t from, int32_t to, int64_t delay_ns, int64_t until_ns);
  void CutAfter(int32_t from, int32_t to, int64_t byte, BreakKind kind);
  void CorruptNext(int32_t from, int32_t to, const Corruption& how);

  // When something that is sent over the link now arrives at the earliest; 0
  // if the link holds nothing back. To be called for what is sent only: a hold
  // has had an effect then.
  int64_t HeldUntil(int32_t from, int32_t to);
  // Whether TCP has given up before what is held until then arrives.
  bool IsTooLate(int64_t held_until_ns) const;
  // Whether this is so for what is sent over the link now. No hold has an
  // effect by being asked for.
  bool IsSilent(int32_t from, int32_t to) const;
  // How much longer something takes that is sent over the link now.
  int64_t ExtraLatency(int32_t from, int32_t to);
  // Whether a frame of so many bytes breaks its connection.
  bool TakeCut(int32_t from, int32_t to, size_t bytes, BreakKind& kind);
  bool SpoilsNext(int32_t from, int32_t to) const {
    return corruptions_.contains({from, to});
  }
  // Spoils the frame if the next one is to be.
  void MaySpoil(int32_t from, int32_t to, std::vector<uint8_t>& frame);

  // How long so many bytes take on the wire, the first to the last.
  int64_t TransferNs(int32_t from, int32_t to, int64_t bytes) const;
  // How many bytes a connection sends when it is its turn: as many as take 16
  // ms, but no less than 4 KiB and no more than 64 KiB.
  int64_t PieceBytes(int32_t from, int32_t to) const;
  // Whether `sender` may send now. If not, it gets its turn
  // (`Endpoint::TakeTurn`) after all that wait already.
  bool MayTransmit(Endpoint& sender);
  // Puts so many bytes on the wire. Returns when the last of them is on it.
  int64_t Transmit(const Endpoint& sender, int64_t bytes);

  // Forgets who waits.
  void Clear() { wires_.clear(); }

 private:
  using Link = std::pair<int32_t, int32_t>;

  struct CutPlan {
    int64_t bytes_left;
    BreakKind kind;
  };
  struct SlowLink {
    int64_t delay_ns;
    int64_t until_ns;
  };
  struct Wire {
    uint64_t number;  // of the network's wires
    int64_t free_ns = 0;
    std::deque<std::shared_ptr<Endpoint>> waiting = {};
    bool is_armed = false;
    uint64_t events = 0;
  };

  Wire& WireOf(int32_t from, int32_t to);
  void Arm(Wire& wire);
  void GiveTurns(Wire& wire);

  World& world_;
  const NetworkOptions& options_;
  const Injected injected_;
  std::map<Link, int64_t> held_until_ns_;
  std::map<Link, SlowLink> slow_;
  std::map<Link, CutPlan> cuts_;
  std::map<Link, Corruption> corruptions_;     // of the next frame
  std::map<std::pair<int, int>, Wire> wires_;  // between two hosts
};

}  // namespace reprise

#endif  // REPRISE_SIM_NETWORK_LINKS_H_

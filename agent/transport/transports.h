// The transport seam: which TensorPipe transports and channels an agent uses.
//
// `RealTransports()` makes the transports uv and shm, our own, and ibv, and the
// channels reprise_cma and cma, our own, mpt_uv and basic. A simulated world
// hands out its own network instead.

#ifndef REPRISE_AGENT_TRANSPORT_TRANSPORTS_H_
#define REPRISE_AGENT_TRANSPORT_TRANSPORTS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/transport/arrivals.h"
#include "tensorpipe/channel/context.h"
#include "tensorpipe/transport/context.h"

namespace reprise {

// Of two that both ends have, the one with the higher priority is used. The
// transport with the lowest priority is the one whose address is published.
struct TransportEntry {
  std::string name;
  int64_t priority = 0;
  std::shared_ptr<tensorpipe::transport::Context> context;
  // What to listen at, without the "name://" prefix, e.g. "127.0.0.1".
  std::string address;
  // Whether a listener can be opened there now; TensorPipe's own transports end
  // the process when it cannot. Null: always. Thread-safe; does not wait.
  std::function<absl::Status()> try_to_listen = nullptr;
};

struct ChannelEntry {
  std::string name;
  int64_t priority = 0;
  std::shared_ptr<tensorpipe::channel::Context> context;
};

struct TransportSet {
  std::vector<TransportEntry> transports;
  std::vector<ChannelEntry> channels;
  // When bytes last arrived on the pipes over these transports. Null where
  // nobody can tell: then only whole messages count as progress.
  std::shared_ptr<PipeArrivals> arrivals;
};

struct TransportOptions {
  // Names to use, in order of preference, first preferred; empty: all that
  // are viable, at their default priorities. "cma" stands for "reprise_cma" and
  // "cma": the one is for peers of our own, the other for TensorPipe's.
  std::vector<std::string> transports;
  std::vector<std::string> channels;
  // The address of this machine that peers can reach, for what runs over IP:
  // "192.0.2.7", "192.0.2.7:5000", "[2001:db8::7]:0". Empty: the address of the
  // interface named by $TP_SOCKET_IFNAME or else of the host name, or else,
  // with a warning, 127.0.0.1. A port is used by uv only.
  std::string bind_address;
};

// Thread-safe.
class TransportProvider {
 public:
  virtual ~TransportProvider() = default;

  // Makes fresh contexts, owned by the caller, the highest priority first; to
  // drop the last reference to one closes and joins it. INVALID_ARGUMENT
  // "Unknown transport: x" or "Unknown channel: x", or for a `bind_address`
  // that cannot be used; UNAVAILABLE, with the reason for each, when no
  // transport or no channel that was asked for works here.
  virtual absl::StatusOr<TransportSet> Make(
      const TransportOptions& options) = 0;
};

// Lives as long as the process. Its `Make` calls `IgnoreSigpipe`.
TransportProvider& RealTransports();

// Ignores SIGPIPE in this process, unless the program has set a handler of its
// own: TensorPipe's writes to a dead peer raise it, and it would end us.
void IgnoreSigpipe();

// What `RealTransports` could make on this machine, and why not. Makes every
// context and destroys it again, which takes some milliseconds.
struct TransportProbe {
  std::string kind;  // "transport" or "channel"
  std::string name;
  int64_t priority = 0;
  bool viable = false;
  std::string detail;  // the address it would use, or why it cannot work
};
std::vector<TransportProbe> ProbeRealTransports(
    const std::string& bind_address = "");

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_TRANSPORTS_H_

// The transport seam: which TensorPipe transports and channels an agent uses.
//
// `RealTransports()` makes the transports uv and shm, our own, and ibv, and the
// channels reprise_cma and cma, our own, mpt_uv and basic, as far as they work
// on this machine; and for an agent with GPUs those of agent/transport/cuda. In
// a simulated world the provider makes the world's own transport instead. A
// provider and its functions may be used on any thread.

#ifndef REPRISE_AGENT_TRANSPORT_TRANSPORTS_H_
#define REPRISE_AGENT_TRANSPORT_TRANSPORTS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/device/devices.h"
#include "agent/transport/arrivals.h"
#include "tensorpipe/channel/context.h"
#include "tensorpipe/transport/context.h"

namespace reprise {

// Of the transports that both ends have, the one with the highest priority is
// used. The address of the transport with the lowest priority is published.
struct TransportEntry {
  std::string name;
  int64_t priority = 0;
  std::shared_ptr<tensorpipe::transport::Context> context;
  // What to listen at, without the "name://" prefix, e.g. "127.0.0.1".
  std::string address;
  // Whether a listener can be opened there now: TensorPipe's own transports end
  // the process if it cannot. Null: it always can. Thread-safe; does not wait.
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
  // The names to use, in the order of preference. Empty: all that are viable,
  // with their default priorities. "cma" stands for "reprise_cma" and "cma":
  // the first is for peers with our channel, the second for those with
  // TensorPipe's.
  std::vector<std::string> transports;
  std::vector<std::string> channels;
  // The address of this machine at which peers reach it over IP: "192.0.2.7",
  // "192.0.2.7:5000", "[2001:db8::7]:0". Empty: the address of the interface
  // that $TP_SOCKET_IFNAME names, otherwise that of the host name, and if
  // neither can be used, with a warning, 127.0.0.1. Only uv uses the port.
  std::string bind_address;
};

// Thread-safe.
class TransportProvider {
 public:
  virtual ~TransportProvider() = default;

  // Makes new contexts, in the order of their priorities, the highest first.
  // With GPUs in `devices`, which may be null and must outlive the contexts,
  // channels for those are among them. The caller owns the contexts. A context
  // is closed and joined when its last reference is dropped. INVALID_ARGUMENT
  // for "Unknown transport: x", "Unknown channel: x" or a `bind_address` that
  // cannot be used. UNAVAILABLE, with the reason for each, if no transport or
  // no channel that was asked for works here.
  virtual absl::StatusOr<TransportSet> Make(const TransportOptions& options,
                                            Devices* devices) = 0;
  // For an agent without GPUs.
  absl::StatusOr<TransportSet> Make(const TransportOptions& options) {
    return Make(options, nullptr);
  }
};

// The real transports. They live as long as the process. `Make` calls
// `IgnoreSigpipe`, and the first `Make` calls `RaiseDescriptorLimit` and
// `KeepMemoryReserve` (agent/runtime/memory_reserve.h).
TransportProvider& RealTransports();

// Ignores SIGPIPE in this process unless the program has set a handler of its
// own. TensorPipe's writes to a dead peer raise it, and it would end the
// process.
void IgnoreSigpipe();

// Lets this process open as many files as its hard limit allows, since each
// peer takes some. A program that wants fewer lowers the soft limit afterwards,
// or starts with a lower hard limit.
void RaiseDescriptorLimit();

// The transport probe: which transports and channels `RealTransports` can make
// on this machine, and why not the others. It makes every context and destroys
// it again, which takes some milliseconds.
struct TransportProbe {
  std::string kind;  // "transport" or "channel"
  std::string name;
  int64_t priority = 0;
  bool viable = false;
  std::string detail;  // the address it would use, or why it cannot work
};
std::vector<TransportProbe> ProbeRealTransports(
    const std::string& bind_address = "");
// The same for the channels for GPUs, with those of `devices`.
std::vector<TransportProbe> ProbeRealGpuChannels(
    Devices& devices, const std::string& bind_address = "");

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_TRANSPORTS_H_

// The simulated network: a TensorPipe transport under the real TensorPipe core.
//
// Connections carry frames, in order, each after a latency drawn at the site
// "send" of the fiber that sends it. What can go wrong goes wrong as on TCP: a
// connect is refused, a connection breaks at a byte (the frame in which that
// byte lies never arrives) by a reset or an end of stream, or a link holds
// everything back and either heals, and then everything arrives late, or never
// does.
//
//   node w0                              node w1
//   tensorpipe::Context                  tensorpipe::Context
//   SimTransport -- SimConnection ====== SimConnection -- SimTransport
//                        Endpoint  wire  Endpoint
//
// Callbacks run on the transport thread ("io") of the endpoint's node.
//
// Tensors on CPUs go over TensorPipe's channel "basic", and those on GPUs over
// the channels of agent/transport/cuda, which are the same object code as over
// real GPUs.

#ifndef REPRISE_SIM_NETWORK_NETWORK_H_
#define REPRISE_SIM_NETWORK_NETWORK_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/transport/cma/environment.h"
#include "agent/transport/cuda/environment.h"
#include "agent/transport/transports.h"
#include "fault_injection/fault_kind.h"
#include "sim/world/world.h"

namespace reprise {

struct NetworkOptions {
  int64_t latency_min_ns = 20'000;
  int64_t latency_spread_ns = 80'000;  // uniform on top
  int64_t spike_one_in = 200;          // frames; 0: no spikes
  int64_t spike_max_ns = 5'000'000;
  int64_t bytes_per_second = 1'000'000'000;
};

class Endpoint;
class SimListener;

enum class BreakKind : uint8_t {
  kReset,        // both ends: "Connection reset by peer"; what flies is lost
  kEndOfStream,  // what flies arrives first, then "eof"
};

// The network of one world. Not thread-safe: it is used on the world's OS
// thread only.
class Network {
 public:
  Network(World& world, const NetworkOptions& options);
  ~Network();

  // TensorPipe contexts for one node. They must not outlive the network unless
  // their node has crashed.
  TransportSet MakeTransports(Node& node, const TransportOptions& options);

  // Faults. They concern ranks, whatever incarnation of the worker is alive.

  // Connects to `rank` are refused until `until_ns`.
  void RefuseConnects(int32_t rank, int64_t until_ns);
  // Frames and connects between the two, both ways, arrive only after
  // `until_ns` (kNever: never, which is a partition).
  void Hold(int32_t rank_a, int32_t rank_b, int64_t until_ns);
  // Frames and connects between the two, both ways, that are sent before
  // `until_ns` take `delay_ns` longer.
  void Delay(int32_t rank_a, int32_t rank_b, int64_t delay_ns,
             int64_t until_ns);
  // Breaks the connection of the write of `from` to `to` that crosses the
  // `byte`-th byte. Bytes are counted over all connections of the two, from now
  // on.
  void CutAfter(int32_t from, int32_t to, int64_t byte, BreakKind kind);
  // Breaks all open connections between the two now.
  void Cut(int32_t rank_a, int32_t rank_b, BreakKind kind);
  // Connects to every listener of `rank` and goes away before the hello.
  void DropConnect(int32_t rank);
  // `watcher` is called each time when a fault that was set up above strikes,
  // with the workers of the link or, with -1 as the other, the worker.
  void OnInjected(std::function<void(FaultKind, int32_t, int32_t)> watcher) {
    on_injected_ = std::move(watcher);
  }

  // The number of open ends of connections. At the end of a run it must be 0.
  int64_t num_open_endpoints() const {
    return static_cast<int64_t>(endpoints_.size());
  }

 private:
  friend class Endpoint;
  friend class SimListener;
  friend class SimTransport;
  using EndpointKey = std::pair<uint64_t, bool>;  // connection, is server
  using Link = std::pair<int32_t, int32_t>;

  struct CutPlan {
    int64_t bytes_left;
    BreakKind kind;
  };

  struct SlowLink {
    int64_t delay_ns;
    int64_t until_ns;
  };

  std::string Bind(Node& node, SimListener* listener);
  void Unbind(const std::string& address);
  std::shared_ptr<Endpoint> Connect(Node& node, const std::string& address);
  void Arrive(const std::shared_ptr<Endpoint>& client,
              const std::string& address);
  int64_t DrawLatency(Endpoint& from, size_t bytes);
  // How long so many bytes take to arrive, the first to the last.
  int64_t TransferNs(size_t bytes) const {
    return static_cast<int64_t>(bytes) * 1'000'000'000 /
           options_.bytes_per_second;
  }
  // When something that is sent over the link now arrives at the earliest; 0
  // if the link holds nothing back.
  int64_t HeldUntil(int32_t from, int32_t to);
  // How much longer something takes that is sent over the link now.
  int64_t ExtraLatency(int32_t from, int32_t to);
  // Whether the frame breaks its connection.
  bool TakeCut(int32_t from, int32_t to, size_t bytes, BreakKind& kind);
  void NodeCrashed(Node& node);
  void Injected(FaultKind kind, int32_t worker, int32_t other = -1) {
    if (on_injected_) on_injected_(kind, worker, other);
  }

  World& world_;
  const Place& send_;
  const NetworkOptions options_;
  std::map<std::string, SimListener*> listeners_;
  std::map<EndpointKey, Endpoint*> endpoints_;
  std::vector<std::shared_ptr<Endpoint>> dead_;
  std::map<int32_t, int64_t> next_port_;
  std::map<int32_t, uint64_t> connects_;
  std::map<int32_t, int64_t> refused_until_ns_;
  std::map<Link, int64_t> held_until_ns_;
  std::map<Link, SlowLink> slow_;
  std::map<Link, CutPlan> cuts_;
  std::function<void(FaultKind, int32_t, int32_t)> on_injected_;
};

// The transport seam of one node.
class SimTransports : public TransportProvider {
 public:
  // `gpus`: what the channels for GPUs are built on, of the devices that `Make`
  // is given; nothing on a node without GPUs.
  // `cma`: what that channel is built on; without it there is none.
  SimTransports(Network& network, Node& node,
                std::optional<GpuChannelEnvironment> gpus = std::nullopt,
                std::optional<CmaEnvironment> cma = std::nullopt)
      : network_(network),
        node_(node),
        gpus_(std::move(gpus)),
        cma_(std::move(cma)) {}

  // For CPUs the channel "basic" is always there, and "cma" (between our own
  // workers, on one host) and "mpt_uv" are if `options` names them. Channels
  // that the simulated network does not have are left out.
  absl::StatusOr<TransportSet> Make(const TransportOptions& options,
                                    Devices* devices) override;

 private:
  Network& network_;
  Node& node_;
  const std::optional<GpuChannelEnvironment> gpus_;
  const std::optional<CmaEnvironment> cma_;
};

}  // namespace reprise

#endif  // REPRISE_SIM_NETWORK_NETWORK_H_

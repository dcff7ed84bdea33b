// The simulated network: a TensorPipe transport under the real TensorPipe core.
//
// Connections carry frames, in order, as TCP carries them: a frame takes the
// latency of its link, drawn at the site "send" of the fiber that sends it, and
// the time of its bytes on a wire that others use too; what a peer does not
// read fills the buffers, and then writes wait. What can go wrong goes wrong as
// on TCP: a connect is refused or never answered, a connection breaks at a byte
// (the frame in which that byte lies never arrives) by a reset or an end of
// stream, a link holds everything back, in one direction or both, and a machine
// dies with or without a word.
//
//   node w0                              node w1
//   tensorpipe::Context                  tensorpipe::Context
//   SimTransport -- SimConnection        SimConnection -- SimTransport
//                        |                    |
//                     Endpoint ==== Links === Endpoint
//
// Callbacks run on the transport thread ("io") of the endpoint's node.
//
// Tensors on CPUs go over TensorPipe's channel "basic" or, if an agent's
// options name it, over our "cma", and those on GPUs over the channels of
// agent/transport/cuda. All of them are the same object code as on real
// machines.

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
#include "agent/transport/descriptor_room.h"
#include "agent/transport/transports.h"
#include "fault_injection/fault_kind.h"
#include "sim/network/links.h"
#include "sim/network/options.h"
#include "sim/world/world.h"

namespace reprise {

class Endpoint;
class PeerCheck;
class SimListener;

// The network of one world. Not thread-safe: it is used by whoever runs in
// the world.
class Network {
 public:
  Network(World& world, const NetworkOptions& options);
  ~Network();

  // TensorPipe contexts for one node. They must not outlive the network unless
  // their node has crashed.
  TransportSet MakeTransports(Node& node, const TransportOptions& options);

  // The machine of this worker is up: `node` is its new incarnation. Need not
  // be called for the first one.
  void NodeIsUp(Node& node);

  // Faults. They concern ranks, whatever incarnation of the worker is alive.

  // Connects to `rank` are refused until `until_ns`.
  void RefuseConnects(int32_t rank, int64_t until_ns);
  // What is sent from one to the other arrives only after `until_ns`; kNever:
  // never, which is a partition.
  void HoldOneWay(int32_t from, int32_t to, int64_t until_ns);
  // The same both ways.
  void Hold(int32_t rank_a, int32_t rank_b, int64_t until_ns);
  // What is sent from one to the other before `until_ns` takes `delay_ns`
  // longer.
  void DelayOneWay(int32_t from, int32_t to, int64_t delay_ns,
                   int64_t until_ns);
  void Delay(int32_t rank_a, int32_t rank_b, int64_t delay_ns,
             int64_t until_ns);
  // Breaks the connection of the write of `from` to `to` that crosses the
  // `byte`-th byte. Bytes are counted over all connections of the two, from now
  // on.
  void CutAfter(int32_t from, int32_t to, int64_t byte, BreakKind kind);
  // Spoils the next frame that one sends to the other.
  void CorruptNext(int32_t from, int32_t to, const Corruption& how) {
    links_.CorruptNext(from, to, how);
  }
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
  // The number of closed ends that have something left to send.
  int64_t num_lingering_endpoints() const {
    return static_cast<int64_t>(lingering_.size());
  }

 private:
  friend class Endpoint;
  friend class SimListener;
  friend class SimTransport;
  friend class SimTransports;
  using EndpointKey = std::pair<uint64_t, bool>;  // connection, is server

  // A client that connects.
  struct Attempt {
    std::shared_ptr<Endpoint> client;
    std::string address;
    int32_t rank;  // of the server; -1 if nobody ever listened there
    int64_t begun_ns;
    int retries;
  };

  // Listens at `wanted`, or at a new port of the node if that is empty. Returns
  // the address, or nothing if somebody listens there already.
  std::string Bind(Node& node, const std::string& wanted,
                   SimListener* listener);
  void Unbind(const std::string& address);
  std::shared_ptr<Endpoint> Connect(Node& node, const std::string& address);
  // An end that no connection is made for.
  std::shared_ptr<Endpoint> MakeClosedEnd(Node& node);

  // connects.cc
  void SendConnect(Attempt attempt);
  void ConnectArrives(const Attempt& attempt);
  void Refuse(const Attempt& attempt, int64_t answer_ns);
  // The attempt is not answered: it is made again, or given up.
  void RetryConnect(Attempt attempt);
  void GiveUpConnect(const Attempt& attempt);

  uint64_t NextConnection(const Node& node);
  int64_t DrawLatency(Endpoint& from);
  int64_t DrawLoss(const Site& site, int64_t one_in);
  bool IsMachineUp(int32_t rank) const;
  void NodeCrashed(Node& node);
  void Injected(FaultKind kind, int32_t worker, int32_t other = -1) {
    if (on_injected_) on_injected_(kind, worker, other);
  }

  World& world_;
  const Place& send_;
  const Place& loss_;
  const NetworkOptions options_;
  // Where `checks_peers` needs it: there is always room.
  DescriptorRoom room_;
  Links links_;
  std::map<std::string, SimListener*> listeners_;
  std::map<std::string, int32_t> rank_of_;  // of each address there ever was
  std::map<EndpointKey, Endpoint*> endpoints_;
  // Ends with closed sockets that have something left to send.
  std::map<EndpointKey, std::shared_ptr<Endpoint>> lingering_;
  std::vector<std::shared_ptr<Endpoint>> dead_;
  std::map<int32_t, const Node*> last_node_;  // of each worker that has died
  std::map<int32_t, int64_t> next_port_;
  std::map<int32_t, uint64_t> connects_;
  std::map<int32_t, int64_t> refused_until_ns_;
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

  // For CPUs the channel "basic" is always there, and if `options` names them
  // "cma", between our own workers on one host, and "mpt_uv", whose lanes are
  // connections of the simulated network. Channels that the simulated
  // network does not have are left out.
  absl::StatusOr<TransportSet> Make(const TransportOptions& options,
                                    Devices* devices) override;

 private:
  std::shared_ptr<tensorpipe::channel::Context> MakeMptUv(
      const std::shared_ptr<PipeArrivals>& arrivals,
      const std::shared_ptr<PeerCheck>& check);

  Network& network_;
  Node& node_;
  const std::optional<GpuChannelEnvironment> gpus_;
  const std::optional<CmaEnvironment> cma_;
};

}  // namespace reprise

#endif  // REPRISE_SIM_NETWORK_NETWORK_H_

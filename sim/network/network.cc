#include "sim/network/network.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "sim/network/endpoint.h"
#include "sim/network/errors.h"
#include "sim/network/sim_transport.h"
#include "sim/world/latency.h"
#include "sim/world/race_annotations.h"
#include "tensorpipe/channel/basic/factory.h"

namespace reprise {

Network::Network(World& world, const NetworkOptions& options)
    : world_(world),
      send_(world.decisions().PlaceAt("send")),
      loss_(world.decisions().PlaceAt("loss")),
      options_(options),
      room_([] { return std::numeric_limits<int64_t>::max(); }),
      links_(world, options_, [this](FaultKind kind, int32_t from, int32_t to) {
        Injected(kind, from, to);
      }) {
  world_.OnCrash([this](Node& node) { NodeCrashed(node); });
}

Network::~Network() {
  links_.Clear();
  lingering_.clear();
}

TransportSet Network::MakeTransports(Node& node,
                                     const TransportOptions& options) {
  const InSimulator in;
  TransportSet set;
  set.arrivals = std::make_shared<PipeArrivals>();
  std::vector<std::string> names = options.transports;
  if (names.empty()) names = {"sim"};
  for (size_t i = 0; i < names.size(); ++i) {
    set.transports.push_back(
        {names[i], static_cast<int64_t>(names.size() - 1 - i),
         std::make_shared<SimTransport>(*this, node, names[i], set.arrivals),
         ""});
  }
  set.channels.push_back({"basic", 1000, tensorpipe::channel::basic::create()});
  return set;
}

std::string Network::Bind(Node& node, const std::string& wanted,
                          SimListener* listener) {
  std::string address = wanted;
  while (address.empty() || (wanted.empty() && listeners_.contains(address))) {
    address = absl::StrCat(node.name, ":", ++next_port_[node.rank]);
  }
  if (!listeners_.emplace(address, listener).second) return "";
  rank_of_[address] = node.rank;
  return address;
}

void Network::Unbind(const std::string& address) { listeners_.erase(address); }

uint64_t Network::NextConnection(const Node& node) {
  // The number is unique, and a function of the node that connects and of how
  // often it has connected.
  return (static_cast<uint64_t>(node.rank) << 32) + ++connects_[node.rank];
}

std::shared_ptr<Endpoint> Network::Connect(Node& node,
                                           const std::string& address) {
  const auto it = rank_of_.find(address);
  const int32_t rank = it == rank_of_.end() ? -1 : it->second;
  auto client = std::make_shared<Endpoint>(*this, node, NextConnection(node),
                                           /*is_server=*/false, rank);
  world_.Record(&node, {.kind = EventKind::kConnect,
                        .id = client->connection(),
                        .rank = listeners_.contains(address) ? rank : -1,
                        .text = address});
  if (node.descriptors.Strikes(world_.now_ns())) {
    client->Fail(UvErrorOf(UV_EMFILE));
    return client;
  }
  SendConnect({client, address, rank, world_.now_ns(), 0});
  return client;
}

std::shared_ptr<Endpoint> Network::MakeClosedEnd(Node& node) {
  auto end = std::make_shared<Endpoint>(*this, node, NextConnection(node),
                                        /*is_server=*/false, -1);
  end->Close();
  return end;
}

int64_t Network::DrawLatency(Endpoint& from) {
  const LinkOptions link =
      links_.OptionsOf(from.node().rank, from.remote_rank());
  const int64_t latency_ns =
      DrawLatencyNs(world_.decisions(), from.Visit(send_),
                    {.min_ns = link.latency_min_ns,
                     .spread_ns = link.latency_spread_ns,
                     .spike_one_in = link.spike_one_in,
                     .spike_max_ns = link.spike_max_ns});
  return link.loss_one_in > 0
             ? latency_ns + DrawLoss(from.Visit(loss_), link.loss_one_in)
             : latency_ns;
}

int64_t Network::DrawLoss(const Site& site, int64_t one_in) {
  // Each loss doubles the time until it is sent again.
  int64_t lost_ns = 0;
  int64_t wait_ns = kFirstRetransmissionNs;
  for (uint64_t bits = site.Bits(DecisionKind::kLatency);
       Below(bits, static_cast<uint64_t>(one_in)) == 0 &&
       wait_ns < kLongestRetransmissionNs;
       bits = Mix(bits)) {
    lost_ns += wait_ns;
    wait_ns *= 2;
  }
  Decisions& decisions = world_.decisions();
  decisions.CountMade();
  if (!decisions.replaying()) return lost_ns;
  return static_cast<int64_t>(decisions.Recorded(site, DecisionKind::kLatency)
                                  .value_or(static_cast<uint64_t>(lost_ns)));
}

bool Network::IsMachineUp(int32_t rank) const {
  const auto last = last_node_.find(rank);
  return last == last_node_.end() || last->second->alive ||
         last->second->death != NodeDeath::kPowerCut;
}

void Network::NodeIsUp(Node& node) {
  last_node_[node.rank] = &node;
  std::vector<std::shared_ptr<Endpoint>> peers;
  for (const auto& [key, endpoint] : endpoints_) {
    if (endpoint->remote_rank() == node.rank) {
      peers.push_back(endpoint->shared_from_this());
    }
  }
  for (const auto& endpoint : peers) endpoint->PeerIsUp();
}

void Network::RefuseConnects(int32_t rank, int64_t until_ns) {
  refused_until_ns_[rank] = until_ns;
}

void Network::HoldOneWay(int32_t from, int32_t to, int64_t until_ns) {
  links_.Hold(from, to, until_ns);
}

void Network::Hold(int32_t rank_a, int32_t rank_b, int64_t until_ns) {
  links_.Hold(rank_a, rank_b, until_ns);
  links_.Hold(rank_b, rank_a, until_ns);
}

void Network::DelayOneWay(int32_t from, int32_t to, int64_t delay_ns,
                          int64_t until_ns) {
  links_.Delay(from, to, delay_ns, until_ns);
}

void Network::Delay(int32_t rank_a, int32_t rank_b, int64_t delay_ns,
                    int64_t until_ns) {
  links_.Delay(rank_a, rank_b, delay_ns, until_ns);
  links_.Delay(rank_b, rank_a, delay_ns, until_ns);
}

void Network::CutAfter(int32_t from, int32_t to, int64_t byte, BreakKind kind) {
  links_.CutAfter(from, to, byte, kind);
}

void Network::Cut(int32_t rank_a, int32_t rank_b, BreakKind kind) {
  std::vector<std::shared_ptr<Endpoint>> broken;
  for (const auto& [key, endpoint] : endpoints_) {
    const int32_t near = endpoint->node().rank;
    const int32_t far = endpoint->remote_rank();
    if (!endpoint->is_server() && endpoint->node().alive &&
        ((near == rank_a && far == rank_b) ||
         (near == rank_b && far == rank_a))) {
      broken.push_back(endpoint->shared_from_this());
    }
  }
  for (const auto& endpoint : broken) endpoint->Break(kind);
  if (!broken.empty()) Injected(FaultKind::kCut, rank_a, rank_b);
}

void Network::DropConnect(int32_t rank) {
  bool struck = false;
  const std::map<std::string, SimListener*> listeners = listeners_;
  for (const auto& [address, listener] : listeners) {
    Node& node = listener->node();
    if (node.rank != rank || !node.alive) continue;
    const uint64_t connection = (uint64_t{0xffff} << 32) + ++connects_[-1];
    auto server = std::make_shared<Endpoint>(*this, node, connection,
                                             /*is_server=*/true, -1);
    world_.Record(&node,
                  {.kind = EventKind::kAccept, .id = connection, .rank = -1});
    // A fault may have struck at this event.
    if (!node.alive) continue;
    server->Fail(UvErrorOf(UV_EOF));
    listener->Arrived(std::move(server));
    struck = true;
  }
  if (struck) Injected(FaultKind::kDropConnect, rank);
}

void Network::NodeCrashed(Node& node) {
  last_node_[node.rank] = &node;
  std::erase_if(listeners_, [&node](const auto& entry) {
    return &entry.second->node() == &node;
  });
  std::vector<std::shared_ptr<Endpoint>> ends;
  for (const auto& [key, endpoint] : endpoints_) {
    if (&endpoint->node() == &node) {
      ends.push_back(endpoint->shared_from_this());
    }
  }
  std::vector<std::shared_ptr<Endpoint>> closed;
  for (const auto& [key, endpoint] : lingering_) {
    if (&endpoint->node() == &node && endpoint->is_closed()) {
      closed.push_back(endpoint);
    }
  }
  for (const auto& endpoint : ends) endpoint->Die();
  for (const auto& endpoint : closed) {
    // What a closed end has left is its kernel's, which needs power only.
    if (node.death == NodeDeath::kPowerCut) endpoint->Die();
  }
  std::erase_if(endpoints_, [&node](const auto& entry) {
    return &entry.second->node() == &node;
  });
  // They hold pieces of the abandoned agent, and are kept as long as the
  // network, which a run with such a node leaves undestroyed.
  dead_.insert(dead_.end(), ends.begin(), ends.end());
  dead_.insert(dead_.end(), closed.begin(), closed.end());
}

}  // namespace reprise

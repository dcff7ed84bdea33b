#include "sim/network/network.h"

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/transport/arrivals.h"
#include "agent/transport/whole_object.h"
#include "sim/network/endpoint.h"
#include "sim/world/race_annotations.h"
#include "tensorpipe/channel/basic/factory.h"
#include "tensorpipe/common/error_macros.h"
#include "tensorpipe/core/nop_types.h"
#include "tensorpipe/transport/context.h"
#include "tensorpipe/transport/error.h"
#include "tensorpipe/transport/listener.h"

namespace reprise {
namespace {

namespace transport = tensorpipe::transport;
using tensorpipe::Error;

Error RefusedError() {
  return TP_CREATE_ERROR(tensorpipe::SystemError, "connect", ECONNREFUSED);
}

Error ListenerClosed() {
  return TP_CREATE_ERROR(transport::ListenerClosedError);
}

Error BadObject() {
  return TP_CREATE_ERROR(tensorpipe::SystemError, "read", EBADMSG);
}

class SimConnection : public transport::Connection, public ArrivalClock {
 public:
  SimConnection(std::shared_ptr<Endpoint> endpoint,
                std::shared_ptr<PipeArrivals> arrivals)
      : endpoint_(std::move(endpoint)), arrivals_(std::move(arrivals)) {}
  ~SimConnection() override {
    const InSimulator in;
    arrivals_->Leave(this);
    endpoint_->Close();
  }

  void read(read_callback_fn fn) override {
    const InSimulator in;
    endpoint_->Read(std::move(fn));
  }
  void read(void* ptr, size_t length, read_callback_fn fn) override {
    const InSimulator in;
    endpoint_->Read(ptr, length, std::move(fn));
  }
  void read(tensorpipe::AbstractNopHolder& object,
            read_nop_callback_fn fn) override {
    const InSimulator in;
    endpoint_->Read([arrivals = arrivals_, pipe = pipe_, &object,
                     fn = std::move(fn)](const Error& error, const void* data,
                                         size_t length) {
      if (error) return fn(error);
      if (!ReadWholeObject({static_cast<const char*>(data), length}, object)) {
        return fn(BadObject());
      }
      if (auto* const hello =
              dynamic_cast<tensorpipe::NopHolder<tensorpipe::Packet>*>(
                  &object)) {
        arrivals->NumberCaller(hello->getObject());
      } else if (auto* const answer = dynamic_cast<
                     tensorpipe::NopHolder<tensorpipe::BrochureAnswer>*>(
                     &object)) {
        arrivals->NoteAnswer(pipe, answer->getObject(),
                             /*are_we_caller=*/true);
      }
      fn(Error::kSuccess);
    });
  }
  void write(const void* ptr, size_t length, write_callback_fn fn) override {
    const InSimulator in;
    const auto* bytes = static_cast<const uint8_t*>(ptr);
    endpoint_->Write(Endpoint::Frame(bytes, bytes + length),
                     /*is_object=*/false, std::move(fn));
  }
  void write(const tensorpipe::AbstractNopHolder& object,
             write_callback_fn fn) override {
    const InSimulator in;
    if (const auto* const answer = dynamic_cast<
            const tensorpipe::NopHolder<tensorpipe::BrochureAnswer>*>(
            &object)) {
      arrivals_->NoteAnswer(pipe_, answer->getObject(),
                            /*are_we_caller=*/false);
    }
    Endpoint::Frame frame(object.getSize());
    tensorpipe::NopWriter writer(frame.data(), frame.size());
    if (object.write(writer).has_error()) return fn(BadObject());
    endpoint_->Write(std::move(frame), /*is_object=*/true, std::move(fn));
  }
  void setId(std::string id) override { pipe_ = arrivals_->Enter(id, this); }
  void close() override {
    const InSimulator in;
    endpoint_->Close();
  }
  absl::Duration SinceArrival() override {
    const InSimulator in;
    return endpoint_->SinceArrival();
  }

 private:
  const std::shared_ptr<Endpoint> endpoint_;
  const std::shared_ptr<PipeArrivals> arrivals_;
  uint64_t pipe_ = 0;
};

}  // namespace

// A listener at one address. The state is shared with the work that is posted
// to the transport thread.
class SimListener : public transport::Listener {
 public:
  SimListener(Network& network, Node& node,
              std::shared_ptr<PipeArrivals> arrivals)
      : network_(network),
        state_(std::make_shared<State>(node)),
        arrivals_(std::move(arrivals)),
        address_(network.Bind(node, this)) {}
  ~SimListener() override { close(); }

  void accept(accept_callback_fn fn) override {
    const InSimulator in;
    state_->accepts.push_back(std::move(fn));
    PostProgress();
  }
  std::string addr() const override { return address_; }
  void setId(std::string /*id*/) override {}
  void close() override {
    const InSimulator in;
    if (state_->closed) return;
    state_->closed = true;
    network_.Unbind(address_);
    PostProgress();
  }

  void Arrived(std::shared_ptr<Endpoint> server) {
    state_->arrived.push_back(
        std::make_shared<SimConnection>(std::move(server), arrivals_));
    PostProgress();
  }
  Node& node() { return state_->node; }

 private:
  struct State {
    explicit State(Node& node) : node(node) {}
    Node& node;
    bool closed = false;
    std::deque<accept_callback_fn> accepts;
    std::deque<std::shared_ptr<SimConnection>> arrived;
  };

  void PostProgress() {
    AnnounceRelease(state_.get());
    state_->node.world->PostIo(state_->node, [state = state_] {
      AnnounceAcquire(state.get());
      while (!state->accepts.empty() &&
             (state->closed || !state->arrived.empty())) {
        accept_callback_fn accept = std::move(state->accepts.front());
        state->accepts.pop_front();
        if (state->closed) {
          const OutOfSimulator out;
          accept(ListenerClosed(), nullptr);
          continue;
        }
        std::shared_ptr<SimConnection> connection =
            std::move(state->arrived.front());
        state->arrived.pop_front();
        const OutOfSimulator out;
        accept(Error::kSuccess, std::move(connection));
      }
      if (state->closed) state->arrived.clear();
    });
  }

  Network& network_;
  const std::shared_ptr<State> state_;
  const std::shared_ptr<PipeArrivals> arrivals_;
  const std::string address_;
};

class SimTransport : public transport::Context {
 public:
  SimTransport(Network& network, Node& node, std::string_view name,
               std::shared_ptr<PipeArrivals> arrivals)
      : network_(network),
        node_(node),
        arrivals_(std::move(arrivals)),
        domain_(absl::StrCat("sim:", std::string(name))) {}

  std::shared_ptr<transport::Connection> connect(std::string addr) override {
    const InSimulator in;
    return std::make_shared<SimConnection>(network_.Connect(node_, addr),
                                           arrivals_);
  }
  std::shared_ptr<transport::Listener> listen(std::string /*addr*/) override {
    const InSimulator in;
    return std::make_shared<SimListener>(network_, node_, arrivals_);
  }
  bool isViable() const override { return true; }
  const std::string& domainDescriptor() const override { return domain_; }
  void setId(std::string /*id*/) override {}
  void close() override {}
  void join() override {}

 private:
  Network& network_;
  Node& node_;
  const std::shared_ptr<PipeArrivals> arrivals_;
  const std::string domain_;
};

Network::Network(World& world, const NetworkOptions& options)
    : world_(world),
      send_(world.decisions().PlaceAt("send")),
      options_(options) {
  world_.OnCrash([this](Node& node) { NodeCrashed(node); });
}

Network::~Network() = default;

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
  // TensorPipe's other channels have threads of their own.
  set.channels.push_back({"basic", 1000, tensorpipe::channel::basic::create()});
  return set;
}

std::string Network::Bind(Node& node, SimListener* listener) {
  std::string address = absl::StrCat(node.name, ":", ++next_port_[node.rank]);
  listeners_[address] = listener;
  return address;
}

void Network::Unbind(const std::string& address) { listeners_.erase(address); }

std::shared_ptr<Endpoint> Network::Connect(Node& node,
                                           const std::string& address) {
  // The number is unique, and a function of the node that connects and of how
  // often it has connected.
  const uint64_t connection =
      (static_cast<uint64_t>(node.rank) << 32) + ++connects_[node.rank];
  int32_t remote_rank = -1;
  if (auto it = listeners_.find(address); it != listeners_.end()) {
    remote_rank = it->second->node().rank;
  }
  auto client = std::make_shared<Endpoint>(*this, node, connection,
                                           /*is_server=*/false, remote_rank);
  world_.Record(&node, {.kind = EventKind::kConnect,
                        .id = connection,
                        .rank = remote_rank,
                        .text = address});
  int64_t arrival_ns = world_.now_ns() + DrawLatency(*client, 0);
  if (remote_rank >= 0) {
    const int64_t held_until_ns = HeldUntil(node.rank, remote_rank);
    if (held_until_ns == Scheduler::kNever) return client;
    arrival_ns = std::max(arrival_ns + ExtraLatency(node.rank, remote_rank),
                          held_until_ns);
  }
  world_.At(arrival_ns, {connection * 2, UINT64_MAX - 1},
            [this, client, address] { Arrive(client, address); });
  return client;
}

void Network::Arrive(const std::shared_ptr<Endpoint>& client,
                     const std::string& address) {
  Node& client_node = client->node();
  if (!client_node.alive) return;
  auto it = listeners_.find(address);
  SimListener* const listener = it == listeners_.end() ? nullptr : it->second;
  bool refused = listener == nullptr || !listener->node().alive;
  if (!refused) {
    auto until = refused_until_ns_.find(listener->node().rank);
    if (until != refused_until_ns_.end() && until->second > world_.now_ns()) {
      refused = true;
      Injected(FaultKind::kRefuse, listener->node().rank);
    }
  }
  if (!refused) {
    world_.Record(&listener->node(),
                  {.kind = EventKind::kAccept, .id = client->connection()});
    // A fault may have struck at this event.
    if (!client_node.alive) return;
    refused = !listener->node().alive;
  }
  const int64_t answer_ns = world_.now_ns() + DrawLatency(*client, 0);
  const EventOrder order{client->connection() * 2, UINT64_MAX};
  if (refused) {
    world_.At(answer_ns, order, [this, client] {
      world_.Record(&client->node(),
                    {.kind = EventKind::kRefused, .id = client->connection()});
      client->Fail(RefusedError());
    });
    return;
  }
  Node& server_node = listener->node();
  auto server =
      std::make_shared<Endpoint>(*this, server_node, client->connection(),
                                 /*is_server=*/true, client_node.rank);
  server->Establish(client);
  listener->Arrived(server);
  world_.At(answer_ns, order, [client, server] {
    if (client->node().alive) client->Establish(server);
  });
}

int64_t Network::DrawLatency(Endpoint& from, size_t bytes) {
  const Site& site = from.VisitSend();
  uint64_t bits = site.Bits(DecisionKind::kLatency);
  int64_t latency_ns =
      options_.latency_min_ns +
      static_cast<int64_t>(
          Below(bits, static_cast<uint64_t>(options_.latency_spread_ns) + 1));
  if (options_.spike_one_in > 0) {
    bits = Mix(bits);
    if (Below(bits, static_cast<uint64_t>(options_.spike_one_in)) == 0) {
      latency_ns += static_cast<int64_t>(
          Below(Mix(bits), static_cast<uint64_t>(options_.spike_max_ns)));
    }
  }
  world_.decisions().CountMade();
  if (world_.decisions().replaying()) {
    latency_ns =
        static_cast<int64_t>(world_.decisions()
                                 .Recorded(site, DecisionKind::kLatency)
                                 .value_or(static_cast<uint64_t>(latency_ns)));
  }
  return latency_ns + TransferNs(bytes);
}

void Network::RefuseConnects(int32_t rank, int64_t until_ns) {
  refused_until_ns_[rank] = until_ns;
}

void Network::Hold(int32_t rank_a, int32_t rank_b, int64_t until_ns) {
  held_until_ns_[{rank_a, rank_b}] = until_ns;
  held_until_ns_[{rank_b, rank_a}] = until_ns;
}

int64_t Network::HeldUntil(int32_t from, int32_t to) {
  auto it = held_until_ns_.find({from, to});
  if (it == held_until_ns_.end() || it->second <= world_.now_ns()) return 0;
  Injected(it->second == Scheduler::kNever ? FaultKind::kPartition
                                           : FaultKind::kHold,
           from, to);
  return it->second;
}

void Network::Delay(int32_t rank_a, int32_t rank_b, int64_t delay_ns,
                    int64_t until_ns) {
  slow_[{rank_a, rank_b}] = {delay_ns, until_ns};
  slow_[{rank_b, rank_a}] = {delay_ns, until_ns};
}

int64_t Network::ExtraLatency(int32_t from, int32_t to) {
  auto it = slow_.find({from, to});
  if (it == slow_.end() || it->second.until_ns <= world_.now_ns()) return 0;
  Injected(FaultKind::kDelay, from, to);
  return it->second.delay_ns;
}

void Network::CutAfter(int32_t from, int32_t to, int64_t byte, BreakKind kind) {
  cuts_[{from, to}] = {byte, kind};
}

bool Network::TakeCut(int32_t from, int32_t to, size_t bytes, BreakKind& kind) {
  auto it = cuts_.find({from, to});
  if (it == cuts_.end()) return false;
  it->second.bytes_left -= static_cast<int64_t>(bytes);
  if (it->second.bytes_left > 0) return false;
  kind = it->second.kind;
  cuts_.erase(it);
  Injected(FaultKind::kCut, from, to);
  return true;
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
    server->Fail(TP_CREATE_ERROR(tensorpipe::EOFError));
    listener->Arrived(std::move(server));
    struck = true;
  }
  if (struck) Injected(FaultKind::kDropConnect, rank);
}

void Network::NodeCrashed(Node& node) {
  std::erase_if(listeners_, [&node](const auto& entry) {
    return &entry.second->node() == &node;
  });
  std::vector<std::shared_ptr<Endpoint>> broken;
  for (const auto& [key, endpoint] : endpoints_) {
    if (&endpoint->node() == &node) {
      broken.push_back(endpoint->shared_from_this());
    }
  }
  for (const auto& endpoint : broken) endpoint->Break(BreakKind::kReset);
  // Its ends hold pieces of the abandoned agent. They leave the network and are
  // never destroyed.
  std::erase_if(endpoints_, [this, &node](const auto& entry) {
    if (&entry.second->node() != &node) return false;
    dead_.push_back(entry.second->shared_from_this());
    return true;
  });
}

}  // namespace reprise

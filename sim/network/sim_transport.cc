#include "sim/network/sim_transport.h"

#include <future>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/transport/whole_object.h"
#include "sim/network/endpoint.h"
#include "sim/network/errors.h"
#include "sim/world/race_annotations.h"
#include "tensorpipe/core/nop_types.h"

namespace reprise {
namespace {

namespace transport = tensorpipe::transport;
using tensorpipe::Error;

// Orders the events of listeners among simultaneous ones: after those of all
// connections that workers make.
constexpr uint64_t kListenerSource = uint64_t{0xfffd} << 33;

class SimConnection : public transport::Connection, public ArrivalClock {
 public:
  SimConnection(std::shared_ptr<SimContext> context,
                std::shared_ptr<Endpoint> endpoint)
      : context_(std::move(context)),
        number_(context_->num_made++),
        endpoint_(std::move(endpoint)) {
    context_->ends.emplace(number_, endpoint_.get());
    if (context_->is_closed) endpoint_->Close();
    if (context_->has_joined) endpoint_->CallBackInline();
  }
  ~SimConnection() override {
    const InSimulator in;
    context_->ends.erase(number_);
    context_->arrivals->Leave(this);
    endpoint_->Close();
  }

  void read(read_callback_fn done) override {
    const InSimulator in;
    endpoint_->Read(std::move(done));
  }
  void read(void* into, size_t length, read_callback_fn done) override {
    const InSimulator in;
    endpoint_->Read(into, length, std::move(done));
  }
  void read(tensorpipe::AbstractNopHolder& object,
            read_nop_callback_fn done) override {
    const InSimulator in;
    endpoint_->Read([arrivals = context_->arrivals, pipe = pipe_,
                     end = std::weak_ptr<Endpoint>(endpoint_), &object,
                     done = std::move(done)](const Error& error,
                                             const void* data, size_t length) {
      if (error) return done(error);
      if (!ReadWholeObject({static_cast<const char*>(data), length}, object)) {
        done(UvErrorOf(UV_EPROTO));
        const InSimulator again;
        if (const auto endpoint = end.lock()) {
          endpoint->Fail(UvErrorOf(UV_EPROTO));
        }
        return;
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
      done(Error::kSuccess);
    });
  }
  void write(const void* ptr, size_t length, write_callback_fn done) override {
    const InSimulator in;
    endpoint_->Write(ptr, length, std::move(done));
  }
  void write(const tensorpipe::AbstractNopHolder& object,
             write_callback_fn done) override {
    const InSimulator in;
    if (const auto* const answer = dynamic_cast<
            const tensorpipe::NopHolder<tensorpipe::BrochureAnswer>*>(
            &object)) {
      context_->arrivals->NoteAnswer(pipe_, answer->getObject(),
                                     /*are_we_caller=*/false);
    }
    Endpoint::Frame frame(object.getSize());
    tensorpipe::NopWriter writer(frame.data(), frame.size());
    if (object.write(writer).has_error()) {
      endpoint_->Fail(UvErrorOf(UV_EPROTO));
    }
    endpoint_->WriteObject(std::move(frame), std::move(done));
  }
  void setId(std::string id) override {
    pipe_ = context_->arrivals->Enter(id, this);
  }
  void close() override {
    const InSimulator in;
    endpoint_->Close();
  }
  absl::Duration SinceArrival() override {
    const InSimulator in;
    return endpoint_->SinceArrival();
  }

 private:
  const std::shared_ptr<SimContext> context_;
  const uint64_t number_;
  const std::shared_ptr<Endpoint> endpoint_;
  uint64_t pipe_ = 0;
};

}  // namespace

struct SimListener::State {
  Node& node;
  const std::shared_ptr<SimContext> context;
  const uint64_t number;  // among what the context has made
  Error error = Error::kSuccess;
  bool calls_inline = false;
  size_t backlog = 0;  // arrived since the transport thread last looked
  std::deque<accept_callback_fn> accepts = {};
  std::deque<std::shared_ptr<transport::Connection>> arrived = {};
  bool waits_for_descriptors = false;
};

SimListener::SimListener(std::shared_ptr<SimContext> context,
                         std::string wanted)
    : context_(std::move(context)),
      number_(context_->num_made++),
      state_(
          std::make_shared<State>(State{context_->node, context_, number_})) {
  context_->listeners.emplace(number_, this);
  state_->calls_inline = context_->has_joined;
  if (context_->is_closed) {
    address_ = std::move(wanted);
    Fail(ListenerClosed());
    return;
  }
  Node& node = context_->node;
  if (node.descriptors.Strikes(node.world->now_ns())) {
    Fail(UvErrorOf(UV_EMFILE));
    return;
  }
  address_ = context_->network.Bind(node, wanted, this);
  if (address_.empty()) Fail(UvErrorOf(UV_EADDRINUSE));
}

SimListener::~SimListener() {
  const InSimulator in;
  context_->listeners.erase(number_);
  close();
}

void SimListener::accept(accept_callback_fn done) {
  const InSimulator in;
  state_->accepts.push_back(std::move(done));
  PostProgress();
}

void SimListener::close() {
  const InSimulator in;
  Fail(ListenerClosed());
}

void SimListener::Fail(const Error& error) {
  if (state_->error) return;
  state_->error = error;
  if (!address_.empty() && !context_->is_closed) {
    context_->network.Unbind(address_);
  }
  PostProgress();
}

void SimListener::CallBackInline() { state_->calls_inline = true; }

void SimListener::Arrived(std::shared_ptr<Endpoint> server) {
  ++state_->backlog;
  state_->arrived.push_back(
      std::make_shared<SimConnection>(context_, std::move(server)));
  PostProgress();
}

bool SimListener::is_backlog_full() const {
  return state_->backlog >= context_->network.options_.accept_backlog;
}

void SimListener::PostProgress() {
  AnnounceRelease(state_.get());
  if (state_->calls_inline) return Progress(state_);
  state_->node.world->PostIo(state_->node,
                             [state = state_] { Progress(state); });
}

bool SimListener::AwaitsDescriptors(const std::shared_ptr<State>& state) {
  Node& node = state->node;
  World& world = *node.world;
  if (state->error || state->arrived.empty()) return false;
  if (!node.descriptors.Strikes(world.now_ns())) return false;
  if (node.descriptors.until_ns == Scheduler::kNever ||
      std::exchange(state->waits_for_descriptors, true)) {
    return true;
  }
  world.AtIfRunning(
      node.descriptors.until_ns,
      {kListenerSource + static_cast<uint64_t>(node.rank), state->number},
      [state] {
        state->waits_for_descriptors = false;
        if (!state->node.alive) return;
        state->node.world->PostIo(state->node, [state] { Progress(state); });
      });
  return true;
}

void SimListener::Progress(const std::shared_ptr<State>& shared) {
  State& state = *shared;
  AnnounceAcquire(&state);
  // The kernel has made the connections that arrived, and keeps them.
  if (AwaitsDescriptors(shared)) return;
  state.backlog = 0;
  while (!state.accepts.empty() && (state.error || !state.arrived.empty())) {
    const accept_callback_fn accept = std::move(state.accepts.front());
    state.accepts.pop_front();
    if (state.error) {
      const OutOfSimulator out;
      accept(state.error, nullptr);
      continue;
    }
    std::shared_ptr<transport::Connection> connection =
        std::move(state.arrived.front());
    state.arrived.pop_front();
    const OutOfSimulator out;
    accept(Error::kSuccess, std::move(connection));
  }
  if (state.error) state.arrived.clear();
}

SimTransport::SimTransport(Network& network, Node& node, std::string_view name,
                           std::shared_ptr<PipeArrivals> arrivals)
    : context_(std::make_shared<SimContext>(
          SimContext{network, node, std::move(arrivals)})),
      domain_(absl::StrCat("sim:", std::string(name))) {}

SimTransport::~SimTransport() { join(); }

std::shared_ptr<transport::Connection> SimTransport::connect(
    std::string address) {
  const InSimulator in;
  Network& network = context_->network;
  return std::make_shared<SimConnection>(
      context_, context_->is_closed ? network.MakeClosedEnd(context_->node)
                                    : network.Connect(context_->node, address));
}

std::shared_ptr<transport::Listener> SimTransport::listen(std::string address) {
  const InSimulator in;
  return std::make_shared<SimListener>(context_, std::move(address));
}

void SimTransport::close() {
  const InSimulator in;
  if (context_->is_closed) return;
  for (const auto& [number, listener] : context_->listeners) listener->close();
  for (const auto& [number, end] : context_->ends) end->Close();
  context_->is_closed = true;
}

void SimTransport::join() {
  const InSimulator in;
  close();
  if (std::exchange(context_->has_joined, true)) return;
  World& world = *context_->node.world;
  // Outside of the world no callback is called any more.
  if (world.scheduler().current() == nullptr) return;
  auto joined = std::make_shared<std::promise<void>>();
  // Callbacks may post further work, before which the thread does not end.
  struct Last {
    static void Post(Node& node, std::shared_ptr<std::promise<void>> joined) {
      node.world->PostIo(node, [&node, joined] {
        if (!node.io_work.empty()) return Post(node, joined);
        joined->set_value();
      });
    }
  };
  Last::Post(context_->node, joined);
  {
    const OutOfSimulator out;
    joined->get_future().wait();
  }
  for (const auto& [number, listener] : context_->listeners) {
    listener->CallBackInline();
  }
  for (const auto& [number, end] : context_->ends) end->CallBackInline();
}

}  // namespace reprise

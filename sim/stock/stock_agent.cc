#include "sim/stock/stock_agent.h"

#include <ATen/core/ivalue.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/distributed/rpc/request_callback.h>
#include <torch/csrc/distributed/rpc/tensorpipe_agent.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "agent/message.h"
#include "sim/stock/stock_store.h"
#include "sim/stock/stock_transport.h"

namespace reprise {
namespace {

namespace rpc = torch::distributed::rpc;

using JitFuture = c10::intrusive_ptr<rpc::JitFuture>;
using Gpus = std::vector<c10::Device>;
using ReverseMaps = std::unordered_map<std::string, rpc::DeviceMap>;

constexpr auto kRequest =
    static_cast<rpc::MessageType>(MessageType::kScriptCall);
constexpr auto kReply = static_cast<rpc::MessageType>(MessageType::kScriptRet);

c10::intrusive_ptr<rpc::Message> MakeMessage(
    const std::string& payload, rpc::MessageType type,
    std::vector<at::Tensor> tensors = {}) {
  return c10::make_intrusive<rpc::Message>(
      std::vector<char>(payload.begin(), payload.end()), std::move(tensors),
      type);
}

std::string PayloadOf(const rpc::Message& message) {
  return {message.payload().begin(), message.payload().end()};
}

// PyTorch's texts go on with a stack trace.
std::string FirstLine(std::string_view text) {
  return std::string(text.substr(0, text.find('\n')));
}

absl::Status ToStatus(std::string_view text) {
  const std::string line = FirstLine(text);
  return line.find("RPCErr:1:") != std::string::npos
             ? absl::DeadlineExceededError(line)
             : absl::UnknownError(line);
}

// What `function` returns, or what it throws.
template <typename Function>
auto Guarded(Function function) -> absl::StatusOr<decltype(function())> {
  try {
    return function();
  } catch (const std::exception& error) {
    return ToStatus(error.what());
  }
}

float ToSeconds(absl::Duration timeout) {
  return timeout < absl::ZeroDuration()
             ? rpc::kUnsetRpcTimeout
             : static_cast<float>(absl::ToDoubleSeconds(timeout));
}

// The requests of an agent. The agent is known once it has started, and no
// request comes before it does.
class Callback : public rpc::RequestCallback {
 public:
  explicit Callback(StockAgent::Handler handler)
      : handler_(std::move(handler)) {}

  void set_agent(StockAgent* agent) { agent_.store(agent); }

 protected:
  JitFuture processMessage(
      rpc::Message& request,
      std::vector<c10::Stream> /*streams*/) const override {
    StockAgent* const agent = agent_.load();
    TORCH_CHECK(agent != nullptr, "the agent has not started");
    auto reply = MakeMessage(handler_(*agent, PayloadOf(request)), kReply,
                             request.tensors());
    auto future = c10::make_intrusive<rpc::JitFuture>(at::AnyClassType::get());
    auto storages = reply->getStorages();
    future->markCompleted(std::move(reply), std::move(storages));
    return future;
  }

 private:
  const StockAgent::Handler handler_;
  std::atomic<StockAgent*> agent_ = nullptr;
};

StockCall ToCall(const JitFuture& future);

}  // namespace

struct StockCall::State {
  std::mutex mutex;
  std::condition_variable ended;
  std::optional<absl::StatusOr<std::string>> result;
};

StockCall::StockCall(std::shared_ptr<State> state) : state_(std::move(state)) {}

absl::StatusOr<std::string> StockCall::Await(absl::Time deadline) const {
  std::unique_lock<std::mutex> lock(state_->mutex);
  const bool has_ended =
      state_->ended.wait_until(lock, absl::ToChronoTime(deadline),
                               [this] { return state_->result.has_value(); });
  if (!has_ended) return absl::AbortedError("the call has not ended");
  return *state_->result;
}

namespace {

StockCall ToCall(const JitFuture& future) {
  auto state = std::make_shared<StockCall::State>();
  future->addCallback([state](rpc::JitFuture& done) {
    absl::StatusOr<std::string> result =
        done.hasError()
            ? absl::StatusOr<std::string>(
                  ToStatus(done.tryRetrieveErrorMessage()))
            : PayloadOf(*done.value().toCustomClass<rpc::Message>());
    const std::lock_guard<std::mutex> lock(state->mutex);
    state->result = std::move(result);
    state->ended.notify_all();
  });
  return StockCall(std::move(state));
}

}  // namespace

struct StockAgent::Impl {
  std::shared_ptr<rpc::TensorPipeAgent> agent;
  bool has_shut_down = false;
};

StockAgent::StockAgent(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

StockAgent::~StockAgent() { Shutdown(); }

absl::StatusOr<std::unique_ptr<StockAgent>> StockAgent::Start(
    const Environment& environment, const StockOptions& options,
    Handler handler) {
  return Guarded([&] {
    const auto timeout = absl::ToChronoMilliseconds(options.rpc_timeout);
    auto store =
        c10::make_intrusive<StockStore>(environment.store, *environment.runtime,
                                        timeout, options.own_barrier_numbers);
    rpc::TensorPipeRpcBackendOptions backend(
        options.num_worker_threads, std::vector<std::string>{kStockTransport},
        std::vector<std::string>{kStockChannel}, ToSeconds(options.rpc_timeout),
        /*init_method=*/"unused");
    auto callback = std::make_unique<Callback>(std::move(handler));
    Callback& requests = *callback;
    auto impl = std::make_unique<Impl>();
    impl->agent = std::make_shared<rpc::TensorPipeAgent>(
        store, options.name, static_cast<rpc::worker_id_t>(options.id),
        options.world_size == 0 ? c10::optional<int>()
                                : c10::optional<int>(options.world_size),
        backend, ReverseMaps{}, Gpus{}, std::move(callback));
    rpc::TensorPipeAgent& agent = *impl->agent;
    std::unique_ptr<StockAgent> result(new StockAgent(std::move(impl)));
    requests.set_agent(result.get());
    const StockTransportScope transport(*environment.transports);
    agent.start();
    return result;
  });
}

absl::StatusOr<StockCall> StockAgent::Send(int to, const std::string& payload,
                                           absl::Duration timeout) {
  return Guarded([&] {
    rpc::TensorPipeAgent& agent = *impl_->agent;
    return ToCall(
        agent.send(agent.getWorkerInfo(static_cast<rpc::worker_id_t>(to)),
                   MakeMessage(payload, kRequest), ToSeconds(timeout)));
  });
}

absl::StatusOr<StockCall> StockAgent::SendUnmappedTensor(int to) {
  return Guarded([&] {
    rpc::TensorPipeAgent& agent = *impl_->agent;
    const at::Tensor tensor =
        at::empty({2}, at::TensorOptions().device(at::kMeta));
    return ToCall(
        agent.send(agent.getWorkerInfo(static_cast<rpc::worker_id_t>(to)),
                   MakeMessage("E", kRequest, {tensor})));
  });
}

absl::StatusOr<StockCall> StockAgent::SendWithRetries(
    int to, const std::string& payload) {
  return Guarded([&] {
    rpc::TensorPipeAgent& agent = *impl_->agent;
    return ToCall(agent.sendWithRetries(
        agent.getWorkerInfo(static_cast<rpc::worker_id_t>(to)),
        MakeMessage(payload, kRequest)));
  });
}

absl::StatusOr<StockCall> StockAgent::SendByName(const std::string& to,
                                                 const std::string& payload) {
  return Guarded([&] {
    rpc::TensorPipeAgent& agent = *impl_->agent;
    return ToCall(
        agent.send(agent.getWorkerInfo(to), MakeMessage(payload, kRequest)));
  });
}

absl::Status StockAgent::Join(absl::Duration timeout) {
  return Guarded([&] {
           impl_->agent->join(/*shutdown=*/true, ToSeconds(timeout));
           return true;
         })
      .status();
}

void StockAgent::Shutdown() {
  if (std::exchange(impl_->has_shut_down, true)) return;
  impl_->agent->shutdown();
}

namespace {

absl::Status ChangeMembership(rpc::TensorPipeAgent& agent,
                              const StockMember& member, bool joins) {
  const auto gpu = [](int number) {
    return c10::Device(c10::DeviceType::CUDA,
                       static_cast<c10::DeviceIndex>(number));
  };
  Gpus devices;
  for (const int number : member.devices) devices.push_back(gpu(number));
  ReverseMaps maps;
  for (const auto& [from, to] : member.reverse_map) {
    maps["x"].emplace(gpu(from), gpu(to));
  }
  return Guarded([&] {
           agent.updateGroupMembership(
               rpc::WorkerInfo(member.name, static_cast<int64_t>(member.id)),
               devices, maps, joins);
           return true;
         })
      .status();
}

}  // namespace

absl::Status StockAgent::AddMember(const StockMember& member) {
  return ChangeMembership(*impl_->agent, member, /*joins=*/true);
}

absl::Status StockAgent::RemoveMember(const StockMember& member) {
  return ChangeMembership(*impl_->agent, member, /*joins=*/false);
}

int64_t StockAgent::active_calls() {
  return std::stoll(impl_->agent->getMetrics()["agent.client_active_calls"]);
}

int64_t StockAgent::num_deadlines() {
  return static_cast<int64_t>(impl_->agent->timeoutMapSize());
}

int64_t StockAgent::num_devices() {
  return static_cast<int64_t>(impl_->agent->getDevices().size());
}

}  // namespace reprise

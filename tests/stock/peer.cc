#include "tests/stock/peer.h"

#include <stdexcept>
#include <utility>

#include "absl/synchronization/notification.h"
#include "agent/agent.h"
#include "sim/stock/stock_agent.h"
#include "tests/stock/requests.h"

namespace reprise::scenarios {
namespace {

PendingCall ToPending(const StockCall& call) {
  return [call](absl::Time deadline) { return call.Await(deadline); };
}

absl::StatusOr<PendingCall> ToPending(const absl::StatusOr<StockCall>& call) {
  if (!call.ok()) return call.status();
  return ToPending(*call);
}

class StockPeer : public Peer {
 public:
  static absl::StatusOr<std::unique_ptr<Peer>> Start(
      Worker& worker, const PeerOptions& options) {
    const StockOptions stock = {
        .name = worker.name(),
        .id = worker.rank(),
        .world_size = worker.world_size(),
        .num_worker_threads = options.num_worker_threads,
        .rpc_timeout = options.rpc_timeout,
        .own_barrier_numbers = options.own_barrier_numbers};
    auto requests = std::make_shared<Requests>(worker);
    absl::StatusOr<std::unique_ptr<StockAgent>> agent = StockAgent::Start(
        worker.environment(), stock,
        [requests, &worker](StockAgent& self, const std::string& payload) {
          const absl::StatusOr<std::string> answer =
              requests->Answer(payload, [&](int rank) {
                const absl::StatusOr<StockCall> call = self.Send(rank, "E");
                if (!call.ok()) return call.status();
                return call->Await(worker.In(absl::Hours(24))).status();
              });
          if (!answer.ok())
            throw std::runtime_error(answer.status().ToString());
          return *answer;
        });
    if (!agent.ok()) return agent.status();
    return std::make_unique<StockPeer>(*std::move(agent));
  }

  explicit StockPeer(std::unique_ptr<StockAgent> agent)
      : agent_(std::move(agent)) {}

  absl::StatusOr<PendingCall> Send(int to, const std::string& payload,
                                   absl::Duration timeout) override {
    return ToPending(agent_->Send(to, payload, timeout));
  }
  absl::StatusOr<PendingCall> SendUnmappedTensor(int to) override {
    return ToPending(agent_->SendUnmappedTensor(to));
  }
  absl::StatusOr<PendingCall> SendWithRetries(
      int to, const std::string& payload) override {
    return ToPending(agent_->SendWithRetries(to, payload));
  }
  absl::Status Join(absl::Duration timeout) override {
    return agent_->Join(timeout);
  }
  absl::Status Shutdown() override {
    agent_->Shutdown();
    return absl::OkStatus();
  }
  int64_t active_calls() override { return agent_->active_calls(); }

 private:
  const std::unique_ptr<StockAgent> agent_;
};

// Two floats that are said to be on a GPU.
class UnmappedStorage : public Storage {
 public:
  const Device& device() const override { return device_; }
  void* data() override { return values_; }
  size_t num_bytes() const override { return sizeof(values_); }

 private:
  const Device device_ = GpuDevice(0);
  float values_[2] = {0, 0};
};

class OwnPeer : public Peer {
 public:
  static absl::StatusOr<std::unique_ptr<Peer>> Start(
      Worker& worker, const PeerOptions& options) {
    AgentOptions own = worker.options();
    own.num_worker_threads = options.num_worker_threads;
    own.rpc_timeout = options.rpc_timeout;
    auto requests = std::make_shared<Requests>(worker);
    auto started = std::make_shared<Started>();
    absl::StatusOr<std::unique_ptr<Agent>> agent = Agent::Start(
        worker.environment(), own,
        Blocking([requests, started](Message request, const RequestInfo&)
                     -> absl::StatusOr<Message> {
          absl::StatusOr<std::string> answer =
              requests->Answer(request.payload, [&](int rank) {
                started->is_there.WaitForNotification();
                Future call = started->agent->Send(static_cast<WorkerId>(rank),
                                                   MakeRequest("E"));
                call.Wait();
                return call.status();
              });
          if (!answer.ok()) return answer.status();
          request.type = MessageType::kScriptRet;
          request.payload = *std::move(answer);
          return request;
        }),
        worker.In(options.rpc_timeout));
    if (!agent.ok()) return agent.status();
    started->agent = agent->get();
    started->is_there.Notify();
    return std::make_unique<OwnPeer>(worker, *std::move(agent));
  }

  OwnPeer(Worker& worker, std::unique_ptr<Agent> agent)
      : worker_(worker), agent_(std::move(agent)) {}

  absl::StatusOr<PendingCall> Send(int to, const std::string& payload,
                                   absl::Duration timeout) override {
    CallOptions options;
    if (timeout >= absl::ZeroDuration()) options.timeout = timeout;
    return ToPending(
        agent_->Send(static_cast<WorkerId>(to), MakeRequest(payload), options));
  }
  absl::StatusOr<PendingCall> SendUnmappedTensor(int to) override {
    Message request = MakeRequest("E");
    Tensor tensor;
    tensor.sizes = {2};
    tensor.strides = {1};
    tensor.storage = std::make_shared<UnmappedStorage>();
    request.tensors.push_back(std::move(tensor));
    return ToPending(
        agent_->Send(static_cast<WorkerId>(to), std::move(request)));
  }
  absl::StatusOr<PendingCall> SendWithRetries(
      int to, const std::string& payload) override {
    RetryOptions retry;
    retry.retry_if = [](const absl::Status&) { return true; };
    return ToPending(agent_->SendWithRetries(static_cast<WorkerId>(to),
                                             MakeRequest(payload), {}, retry));
  }
  absl::Status Join(absl::Duration timeout) override {
    return agent_->JoinForShutdown(worker_.In(timeout));
  }
  absl::Status Shutdown() override {
    return agent_->Shutdown(worker_.In(absl::Seconds(30)));
  }
  int64_t active_calls() override {
    return agent_->GetMetrics()["agent.client_active_calls"];
  }

 private:
  struct Started {
    absl::Notification is_there;
    Agent* agent = nullptr;
  };

  static Message MakeRequest(const std::string& payload) {
    Message request;
    request.type = MessageType::kScriptCall;
    request.payload = payload;
    return request;
  }

  static PendingCall ToPending(const Future& call) {
    return [call](absl::Time deadline) -> absl::StatusOr<std::string> {
      if (!call.Wait(deadline)) {
        return absl::AbortedError("the call has not ended");
      }
      if (!call.status().ok()) return call.status();
      return call.result()->payload;
    };
  }

  Worker& worker_;
  const std::unique_ptr<Agent> agent_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Peer>> Peer::Start(Worker& worker, PeerKind kind,
                                                  const PeerOptions& options) {
  return kind == PeerKind::kStock ? StockPeer::Start(worker, options)
                                  : OwnPeer::Start(worker, options);
}

void NoteStatus(Worker& worker, const std::string& text,
                const absl::Status& status) {
  worker.Note(status.ok() ? text : text + ": " + status.ToString());
}

}  // namespace reprise::scenarios

#include "tests/scenarios/gpu_agent.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "agent/runtime/mutex.h"

namespace reprise::scenarios {
namespace {

absl::StatusOr<GpuCall> ReadCall(std::string_view payload) {
  GpuCall call;
  const std::vector<std::string> words =
      absl::StrSplit(absl::string_view(payload.data(), payload.size()), ' ');
  if (words.size() < 3 || !absl::SimpleAtoi(words[0], &call.turn) ||
      !absl::SimpleAtoi(words[1], &call.way) ||
      !absl::SimpleAtoi(words[2], &call.reply_device)) {
    return absl::InvalidArgumentError("that is no call");
  }
  for (size_t i = 3; i < words.size(); ++i) {
    int rank = 0;
    if (!absl::SimpleAtoi(words[i], &rank)) {
      return absl::InvalidArgumentError("that is no rank");
    }
    call.via.push_back(rank);
  }
  return call;
}

}  // namespace

std::string GpuCall::ToPayload() const {
  std::string payload = absl::StrCat(turn, " ", way, " ", reply_device);
  for (const int rank : via) absl::StrAppend(&payload, " ", rank);
  return payload;
}

struct GpuAgent::State {
  State(Worker& worker, GpuWork& work, absl::Time start_deadline)
      : worker(worker),
        work(work),
        start_deadline(start_deadline),
        mutex(worker.runtime(), "GpuAgent"),
        started(worker.runtime(), "GpuAgent.started") {}

  // Others may call before our own `Start` has returned. Null if it failed.
  Agent* WaitForAgent() {
    MutexLock lock(mutex);
    while (agent == nullptr && !is_over) {
      if (!started.WaitUntil(mutex, start_deadline)) break;
    }
    return agent;
  }

  absl::StatusOr<Message> Handle(Message request);
  absl::StatusOr<StreamSet> OwnStreams(const StreamSet& after);
  absl::Status TurnAll(const GpuCall& call, const StreamSet& streams,
                       std::vector<Tensor>& tensors);
  absl::Status Forward(GpuCall call, const StreamSet& ours, Message& reply);

  Worker& worker;
  GpuWork& work;
  const absl::Time start_deadline;
  Mutex mutex;
  CondVar started;
  Agent* agent ABSL_GUARDED_BY(mutex) = nullptr;
  bool is_over ABSL_GUARDED_BY(mutex) = false;
};

absl::StatusOr<StreamSet> GpuAgent::State::OwnStreams(const StreamSet& after) {
  StreamSet own;
  for (const GpuStream& stream : after.streams()) {
    const absl::StatusOr<GpuStream> made = work.NewStream(stream.device);
    if (!made.ok()) return made.status();
    if (absl::Status status = work.Order(*made, stream); !status.ok()) {
      return status;
    }
    own.Set(*made);
  }
  return own;
}

absl::Status GpuAgent::State::TurnAll(const GpuCall& call,
                                      const StreamSet& streams,
                                      std::vector<Tensor>& tensors) {
  for (Tensor& tensor : tensors) {
    if (tensor.sizes.size() != 1) continue;
    const Device from = tensor.storage->device();
    const Device to = call.reply_device < 0
                          ? from
                          : GpuDevice(static_cast<int>(call.reply_device));
    // Where the result is, so that what is sent is ordered after it.
    const int gpu = to.type == kGpuDeviceType ? to.index : from.index;
    if (from.type == kGpuDeviceType && gpu != from.index) {
      absl::Status status = work.Order(streams.On(gpu), streams.On(from.index));
      if (!status.ok()) return status;
    }
    auto turned = work.Turn(tensor, to, streams.On(gpu), call.turn);
    if (!turned.ok()) return turned.status();
    tensor = *std::move(turned);
  }
  return absl::OkStatus();
}

absl::Status GpuAgent::State::Forward(GpuCall call, const StreamSet& ours,
                                      Message& reply) {
  Agent* const caller = WaitForAgent();
  if (caller == nullptr) return absl::UnavailableError("still starting");
  const std::string next = worker.NameOf(call.via.front());
  call.via.erase(call.via.begin());
  Message request{MessageType::kScriptCall, call.ToPayload(),
                  std::move(reply.tensors)};
  request.streams = reply.streams;
  const Future answer = caller->Send(next, std::move(request));
  if (!answer.status().ok()) return answer.status();
  reply.tensors = answer.result()->tensors;
  if (call.way != GpuCall::kSilent) {
    reply.streams = answer.result()->streams;
    return absl::OkStatus();
  }
  reply.streams = {};
  return answer.WaitOn(work.devices(), ours);
}

absl::StatusOr<Message> GpuAgent::State::Handle(Message request) {
  const absl::StatusOr<GpuCall> call = ReadCall(request.payload);
  if (!worker.CheckOk(call.status(), "content")) return call.status();
  StreamSet streams = request.streams;
  if (call->way == GpuCall::kOwnStream) {
    absl::StatusOr<StreamSet> own = OwnStreams(request.streams);
    if (!own.ok()) return own.status();
    streams = *std::move(own);
  }
  Message reply{MessageType::kScriptRet, "", std::move(request.tensors)};
  reply.payload = absl::StrJoin(
      reply.tensors, " ", [](std::string* out, const Tensor& tensor) {
        out->append(tensor.storage->device().ToString());
      });
  absl::Status status = TurnAll(*call, streams, reply.tensors);
  if (!status.ok()) return status;
  // For a call to others its own streams count, whatever it tells its caller.
  reply.streams = streams;
  if (!call->via.empty()) {
    status = Forward(*call, request.streams, reply);
    if (!status.ok()) return status;
  } else if (call->way == GpuCall::kSilent) {
    reply.streams = {};
  }
  return reply;
}

absl::StatusOr<std::unique_ptr<GpuAgent>> GpuAgent::Start(Worker& worker,
                                                          GpuWork& work,
                                                          AgentOptions options,
                                                          absl::Time deadline) {
  auto state = std::make_shared<State>(worker, work, deadline);
  absl::StatusOr<std::unique_ptr<Agent>> agent = Agent::Start(
      worker.environment(), std::move(options),
      Blocking([state](Message request, const RequestInfo& /*info*/) {
        return state->Handle(std::move(request));
      }),
      deadline);
  {
    MutexLock lock(state->mutex);
    if (agent.ok()) {
      state->agent = agent->get();
    } else {
      state->is_over = true;
    }
    state->started.NotifyAll();
  }
  if (!agent.ok()) return agent.status();
  return std::unique_ptr<GpuAgent>(
      new GpuAgent(std::move(state), *std::move(agent)));
}

GpuAgent::GpuAgent(std::shared_ptr<State> state, std::unique_ptr<Agent> agent)
    : state_(std::move(state)), agent_(std::move(agent)) {}

GpuAgent::~GpuAgent() = default;

Future GpuAgent::Send(std::string_view to, const GpuCall& call, Message request,
                      const CallOptions& options) {
  request.type = MessageType::kScriptCall;
  request.payload = call.ToPayload();
  return agent_->Send(to, std::move(request), options);
}

}  // namespace reprise::scenarios

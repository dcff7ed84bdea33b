#include "parameter_server.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <utility>

namespace outside {
namespace {

using ::reprise::Message;
using ::reprise::MessageType;
using ::reprise::RequestInfo;
using ::reprise::Tensor;

constexpr char kPush[] = "push ";
constexpr char kPull[] = "pull";
constexpr absl::Duration kCheckpointTimeout = absl::Seconds(5);

// A tensor over a vector's own memory, without a copy. The vector is destroyed
// when the tensor has been sent and nobody reads it any more.
Tensor ToTensor(std::vector<float> values) {
  auto* const kept = new std::vector<float>(std::move(values));
  Tensor tensor;
  tensor.dtype = reprise::DType::kFloat32;
  tensor.sizes = {static_cast<int64_t>(kept->size())};
  tensor.strides = {1};
  tensor.storage = reprise::AdoptCpu(kept->data(), kept->size() * sizeof(float),
                                     [kept](void*) { delete kept; });
  return tensor;
}

absl::StatusOr<std::vector<float>> FromMessage(const Message& message) {
  if (message.tensors.size() != 1 ||
      message.tensors[0].dtype != reprise::DType::kFloat32 ||
      message.tensors[0].strides != std::vector<int64_t>{1}) {
    return absl::InvalidArgumentError("one row of floats was expected");
  }
  const Tensor& tensor = message.tensors[0];
  const auto* const begin =
      static_cast<const float*>(tensor.storage->data()) + tensor.storage_offset;
  return std::vector<float>(begin, begin + tensor.num_elements());
}

}  // namespace

ParameterShard::ParameterShard(const reprise::Environment& environment,
                               const std::string& name, int64_t num_values)
    : runtime_(*environment.runtime),
      store_(environment.store),
      checkpoint_key_("parameters/" + name),
      mutex_(*environment.runtime, "ParameterShard") {
  state_.values.resize(static_cast<size_t>(num_values));
}

absl::StatusOr<std::unique_ptr<ParameterShard>> ParameterShard::Start(
    const reprise::Environment& environment, reprise::AgentOptions options,
    int64_t num_values, absl::Time deadline) {
  std::unique_ptr<ParameterShard> shard(
      new ParameterShard(environment, options.name, num_values));
  // Trainers that come before the checkpoint has been read wait.
  options.start_paused = true;
  absl::StatusOr<std::unique_ptr<reprise::Agent>> agent = reprise::Agent::Start(
      environment, std::move(options),
      reprise::Blocking(
          [&shard = *shard](const Message& request, const RequestInfo& info) {
            return shard.Handle(request, info);
          }),
      deadline);
  if (!agent.ok()) return agent.status();
  shard->agent_ = *std::move(agent);
  if (absl::Status status = shard->Restore(deadline); !status.ok()) {
    return status;
  }
  shard->agent_->Serve();
  return shard;
}

absl::Status ParameterShard::Stop(absl::Time deadline) {
  const absl::Status drained = agent_->Drain(deadline);
  const absl::Status stopped = agent_->Shutdown(deadline);
  return drained.ok() ? stopped : drained;
}

// A line for each trainer, an empty line, and the bytes of the values.
absl::Status ParameterShard::WriteCheckpoint(const State& state,
                                             absl::Time deadline) {
  std::ostringstream text;
  for (const auto& [trainer, number] : state.applied) {
    text << trainer << ' ' << number << '\n';
  }
  text << '\n';
  text.write(reinterpret_cast<const char*>(state.values.data()),
             static_cast<std::streamsize>(state.values.size() * sizeof(float)));
  return store_->Set(checkpoint_key_, text.str(), deadline);
}

absl::Status ParameterShard::Restore(absl::Time deadline) {
  const absl::StatusOr<std::string> checkpoint =
      store_->TryGet(checkpoint_key_, deadline);
  if (absl::IsNotFound(checkpoint.status())) return absl::OkStatus();
  if (!checkpoint.ok()) return checkpoint.status();
  reprise::MutexLock lock(mutex_);
  std::istringstream text(*checkpoint);
  std::string line;
  while (std::getline(text, line) && !line.empty()) {
    std::istringstream words(line);
    std::string trainer;
    int64_t number = 0;
    words >> trainer >> number;
    state_.applied[trainer] = number;
  }
  text.read(reinterpret_cast<char*>(state_.values.data()),
            static_cast<std::streamsize>(state_.values.size() * sizeof(float)));
  return text ? absl::OkStatus()
              : absl::DataLossError("the checkpoint is cut off");
}

absl::StatusOr<Message> ParameterShard::Handle(const Message& request,
                                               const RequestInfo& info) {
  if (request.payload == kPull) return Pull();
  if (request.payload.rfind(kPush, 0) == 0) {
    return Push(request,
                std::atoll(request.payload.c_str() + sizeof(kPush) - 1), info);
  }
  return absl::UnimplementedError("no such request: " + request.payload);
}

absl::StatusOr<Message> ParameterShard::Push(const Message& request,
                                             int64_t number,
                                             const RequestInfo& info) {
  const absl::StatusOr<std::vector<float>> gradient = FromMessage(request);
  if (!gradient.ok()) return gradient.status();
  // The lock is held while the checkpoint is written, so that what a pull shows
  // is never lost.
  reprise::MutexLock lock(mutex_);
  if (gradient->size() != state_.values.size()) {
    return absl::InvalidArgumentError("a gradient of another size");
  }
  const int64_t last = state_.applied[info.caller];
  const Message done{MessageType::kScriptRet, "", {}};
  if (number <= last) return done;  // resent, and applied before
  if (number > last + 1) {
    return absl::FailedPreconditionError(
        "push " + std::to_string(number) + " came after push " +
        std::to_string(last) + ": one in between is lost");
  }
  State next = state_;
  next.applied[info.caller] = number;
  for (size_t i = 0; i < next.values.size(); ++i) {
    next.values[i] += (*gradient)[i];
  }
  const absl::Time deadline =
      std::min(info.deadline, runtime_.Now() + kCheckpointTimeout);
  if (absl::Status status = WriteCheckpoint(next, deadline); !status.ok()) {
    // The checkpoint may have been written or not: the same push comes again.
    return absl::UnavailableError("no checkpoint: " +
                                  std::string(status.message()));
  }
  state_ = std::move(next);
  return done;
}

absl::StatusOr<Message> ParameterShard::Pull() {
  Message reply{MessageType::kScriptRet, "", {}};
  reprise::MutexLock lock(mutex_);
  reply.tensors.push_back(ToTensor(state_.values));
  return reply;
}

std::vector<reprise::Future> ParameterClient::SendToAll(
    const Message& request, const std::string& label, reprise::Lane lane,
    absl::Duration timeout) {
  reprise::CallOptions options;
  options.timeout = std::min(timeout, absl::Seconds(2));  // of an attempt
  options.lane = lane;
  options.label = label;
  reprise::RetryOptions retry;
  retry.max_retries = 1'000'000;  // only the time is a bound
  retry.total_timeout = timeout;
  retry.retry_duration = absl::Milliseconds(20);
  retry.max_pause = absl::Seconds(1);
  // A shard that could not write its checkpoint answers UNAVAILABLE. By
  // default, the agent does not retry after the answer of a handler.
  retry.retry_if = [](const absl::Status& status) {
    return reprise::RetryMayHelp(status) || absl::IsUnavailable(status);
  };
  std::vector<reprise::Future> calls;
  for (const std::string& shard : shards_) {
    calls.push_back(agent_.SendWithRetries(shard, request, options, retry));
  }
  return calls;
}

absl::Status ParameterClient::Push(int64_t number,
                                   const std::vector<float>& gradient,
                                   absl::Duration timeout) {
  const Message request{MessageType::kScriptCall,
                        kPush + std::to_string(number),
                        {ToTensor(gradient)}};
  return WhenAll(runtime_,
                 SendToAll(request, "push", reprise::Lane::kBySize, timeout))
      .status();
}

absl::StatusOr<std::vector<float>> ParameterClient::Pull(
    absl::Duration timeout) {
  // The request is small, but the reply is large.
  const std::vector<reprise::Future> calls =
      SendToAll(Message{MessageType::kScriptCall, kPull, {}}, "pull",
                reprise::Lane::kBulk, timeout);
  if (absl::Status status = WhenAll(runtime_, calls).status(); !status.ok()) {
    return status;
  }
  std::vector<float> values;
  for (const reprise::Future& call : calls) {
    absl::StatusOr<std::vector<float>> part = FromMessage(*call.result());
    if (!part.ok()) return part.status();
    values.insert(values.end(), part->begin(), part->end());
  }
  return values;
}

}  // namespace outside

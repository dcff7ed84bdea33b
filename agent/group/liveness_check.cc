#include "agent/group/liveness_check.h"

#include <cerrno>
#include <exception>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "agent/pipe/message_reader.h"
#include "agent/planted.h"
#include "agent/runtime/mutex.h"
#include "agent/wire/call_extras.h"
#include "agent/wire/message_codec.h"
#include "tensorpipe/core/pipe.h"
#include "tensorpipe/transport/uv/error.h"

namespace reprise {
namespace {

// A check is over long before the peer would miss a sign of life from us.
constexpr absl::Duration kBoundForPeer = absl::Minutes(1);

// An answer to a ping is short.
const WireLimits kAnswerLimits{.max_payload_bytes = 1024,
                               .max_tensor_bytes = 0};

// The outcome is shared with callbacks, which may come when nobody waits any
// more.
struct Outcome {
  explicit Outcome(Runtime& runtime)
      : mutex(runtime, "Probe"), changed(runtime, "Probe.changed") {}

  void Set(Liveness::State state, std::string instance, std::string cause) {
    MutexLock lock(mutex);
    if (done) return;
    done = true;
    liveness = {state, std::move(instance), std::move(cause)};
    changed.NotifyAll();
  }

  void SetError(const tensorpipe::Error& error) {
    const bool is_dead =
        ProvesNobodyListens(error) || REPRISE_PLANTED(any_error_is_death);
    Set(is_dead ? Liveness::State::kDead : Liveness::State::kFailed, "",
        Describe(error));
  }

  Mutex mutex;
  CondVar changed;
  bool done ABSL_GUARDED_BY(mutex) = false;
  Liveness liveness ABSL_GUARDED_BY(mutex);
};

void Ask(tensorpipe::Pipe& pipe) {
  Message ping;
  ping.type = kControlRequest;
  ping.payload = EncodeControl({.bound = kBoundForPeer});
  const absl::StatusOr<std::shared_ptr<const EncodedMessage>> encoded =
      Encode(std::move(ping), /*id=*/0);
  if (!encoded.ok()) return;
  // The memory of what is written must live until it is written.
  pipe.write(ToTensorPipe(**encoded),
             [message = *encoded](const tensorpipe::Error&) {});
}

void OnAnswer(const std::shared_ptr<Outcome>& outcome,
              const std::shared_ptr<tensorpipe::Pipe>& pipe,
              const tensorpipe::Descriptor& descriptor) {
  absl::StatusOr<IncomingMessage> message =
      IncomingMessage::Allocate(descriptor, kAnswerLimits);
  if (!message.ok()) {
    outcome->Set(Liveness::State::kFailed, "",
                 absl::StrCat("its answer cannot be read: ",
                              message.status().message()));
    return;
  }
  const auto shared = std::make_shared<IncomingMessage>(*std::move(message));
  pipe->read(
      shared->allocation(), [outcome, shared](const tensorpipe::Error& error) {
        if (error) {
          outcome->SetError(error);
          return;
        }
        const bool is_pong = shared->type() == kControlResponse;
        absl::StatusOr<DecodedMessage> answer = std::move(*shared).Decode();
        if (!is_pong || !answer.ok()) {
          outcome->Set(Liveness::State::kFailed, "",
                       "its answer is not the answer to a ping");
          return;
        }
        outcome->Set(Liveness::State::kAnswered,
                     InstanceOfPong(answer->message.payload), "");
      });
}

}  // namespace

bool ProvesNobodyListens(const tensorpipe::Error& error) {
  if (const auto system = error.castToType<tensorpipe::SystemError>()) {
    return system->errorCode() == ECONNREFUSED || system->errorCode() == ENOENT;
  }
  if (const auto uv = error.castToType<tensorpipe::transport::uv::UVError>()) {
    // The error does not tell its number, but its text is a function of the
    // number.
    using tensorpipe::transport::uv::UVError;
    const std::string text = uv->what();
    return text == UVError(-ECONNREFUSED).what() ||
           text == UVError(-ENOENT).what();
  }
  return false;
}

Liveness CheckLiveness(Runtime& runtime, tensorpipe::Context& context,
                       const std::string& address, AskInstance ask,
                       absl::Time deadline) {
  std::shared_ptr<tensorpipe::Pipe> pipe;
  try {
    pipe = context.connect(address);
  } catch (const std::exception& error) {
    return {Liveness::State::kFailed, "", error.what()};
  }
  const auto outcome = std::make_shared<Outcome>(runtime);
  if (ask == AskInstance::kYes) Ask(*pipe);
  pipe->readDescriptor(
      [outcome, pipe](const tensorpipe::Error& error,
                      const tensorpipe::Descriptor& descriptor) {
        if (error) {
          outcome->SetError(error);
        } else {
          OnAnswer(outcome, pipe, descriptor);
        }
      });
  Liveness result{Liveness::State::kSilent, "", "it does not answer"};
  {
    MutexLock lock(outcome->mutex);
    while (!outcome->done &&
           outcome->changed.WaitUntil(outcome->mutex, deadline)) {
    }
    if (outcome->done) result = outcome->liveness;
  }
  pipe->close();
  return result;
}

}  // namespace reprise

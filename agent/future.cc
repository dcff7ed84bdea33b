#include "agent/future.h"

#include <exception>
#include <memory>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/call_error.h"
#include "agent/planted.h"
#include "glog/logging.h"

namespace reprise {
namespace {

// A callback is the user's code, on a thread of the agent's.
void RunCallback(Future::Callback& callback, const Future::Result& result) {
  try {
    callback(result);
  } catch (const std::exception& error) {
    LOG(ERROR) << "a callback of a call threw: " << error.what();
  } catch (...) {
    LOG(ERROR) << "a callback of a call threw";
  }
}

}  // namespace

struct Future::State : std::enable_shared_from_this<Future::State> {
  explicit State(Runtime& runtime)
      : mutex(runtime, "Future"), completed(runtime, "Future.completed") {}

  // Does what `Promise::Complete` says.
  bool Complete(Result value, absl::AnyInvocable<void()> after_callbacks);

  Mutex mutex;
  CondVar completed;
  bool done ABSL_GUARDED_BY(mutex) = false;
  bool cancel_requested ABSL_GUARDED_BY(mutex) = false;
  // Written once, before `done` is set; then read without the lock.
  Result result = absl::UnknownError("the call is not done");
  std::vector<Callback> callbacks ABSL_GUARDED_BY(mutex);
  absl::AnyInvocable<void()> on_cancel ABSL_GUARDED_BY(mutex);
  std::shared_ptr<Promise::Executor> executor ABSL_GUARDED_BY(mutex);
};

bool Future::State::Complete(Result value,
                             absl::AnyInvocable<void()> after_callbacks) {
  // What is taken out of the state is destroyed with no lock held.
  std::vector<Callback> called;
  absl::AnyInvocable<void()> dropped;
  std::shared_ptr<Promise::Executor> run_by;
  bool was_done = false;
  if (REPRISE_PLANTED(callbacks_taken_early)) {
    MutexLock lock(mutex);
    if (!done) called.swap(callbacks);
  }
  {
    MutexLock lock(mutex);
    was_done = done;
    if (!was_done) {
      result = std::move(value);
      done = true;
      if (!REPRISE_PLANTED(callbacks_taken_early)) called.swap(callbacks);
      dropped = std::move(on_cancel);
      run_by.swap(executor);
    }
  }
  if (!was_done) completed.NotifyAll();
  if (called.empty()) {
    if (after_callbacks) after_callbacks();
    return !was_done;
  }
  auto run = [self = shared_from_this(), called = std::move(called),
              after = std::move(after_callbacks)]() mutable {
    for (Callback& callback : called) RunCallback(callback, self->result);
    called.clear();  // what they hold is gone when they count as run
    if (after) after();
  };
  if (run_by != nullptr) {
    (*run_by)(std::move(run));
  } else {
    run();
  }
  return true;
}

Future::Future(std::shared_ptr<State> state) : state_(std::move(state)) {}

bool Future::done() const {
  MutexLock lock(state_->mutex);
  return state_->done;
}

bool Future::Wait(absl::Time deadline) const {
  MutexLock lock(state_->mutex);
  while (!state_->done) {
    if (!state_->completed.WaitUntil(state_->mutex, deadline)) {
      return state_->done;
    }
  }
  return true;
}

const Future::Result& Future::result() const {
  Wait(absl::InfiniteFuture());
  return state_->result;
}

absl::Status Future::status() const { return result().status(); }

absl::Status Future::WaitOn(Devices& devices, const StreamSet& streams) const {
  const Result& reply = result();
  if (!reply.ok()) return reply.status();
  if (reply->streams.empty() || devices.gpu_streams() == nullptr) {
    return absl::OkStatus();
  }
  std::vector<int> gpus;
  for (const GpuStream& stream : reply->streams.streams()) {
    gpus.push_back(stream.device);
  }
  for (const Tensor& tensor : reply->tensors) {
    const Device& device = tensor.storage->device();
    if (device.type == kGpuDeviceType) {
      tensor.storage->RecordUse(streams.On(device.index));
    }
  }
  return devices.gpu_streams()->WaitFor(streams, reply->streams, gpus);
}

absl::Status Future::Synchronize(Devices& devices) const {
  const Result& reply = result();
  if (!reply.ok()) return reply.status();
  if (reply->streams.empty() || devices.gpu_streams() == nullptr) {
    return absl::OkStatus();
  }
  return devices.gpu_streams()->Synchronize(reply->streams);
}

void Future::Then(Callback callback) const {
  {
    MutexLock lock(state_->mutex);
    if (!state_->done) {
      state_->callbacks.push_back(std::move(callback));
      return;
    }
  }
  RunCallback(callback, state_->result);
}

void Future::Then(Executor executor, Callback callback) const {
  // The result lives in the state, which the task keeps.
  Then([state = state_, executor = std::move(executor),
        callback = std::move(callback)](const Result&) mutable {
    executor([state, callback = std::move(callback)]() mutable {
      RunCallback(callback, state->result);
    });
  });
}

void Future::Cancel() const {
  absl::AnyInvocable<void()> on_cancel;
  {
    MutexLock lock(state_->mutex);
    if (state_->done || state_->cancel_requested) return;
    state_->cancel_requested = true;
    on_cancel = std::move(state_->on_cancel);
  }
  if (on_cancel) {
    on_cancel();
  } else {
    state_->Complete(
        WithCallError(absl::CancelledError("the call was cancelled"),
                      CallErrorSource::kCaller),
        nullptr);
  }
}

Future Future::Ready(Runtime& runtime, Result result) {
  Promise promise(runtime, nullptr, nullptr);
  promise.Complete(std::move(result));
  return promise.future();
}

namespace {

// Several futures whose results make one.
struct Group {
  Group(Runtime& runtime, std::vector<Future> members, Promise result)
      : mutex(runtime, "FutureGroup"),
        futures(std::move(members)),
        promise(std::move(result)),
        left(futures.size()) {}

  // Returns whether it was the last one.
  bool OneIsDone() {
    MutexLock lock(mutex);
    return --left == 0;
  }

  Mutex mutex;
  const std::vector<Future> futures;
  Promise promise;
  size_t left ABSL_GUARDED_BY(mutex);
};

std::shared_ptr<Group> MakeGroup(Runtime& runtime,
                                 std::vector<Future> futures) {
  // The promise does not know the group, which keeps it.
  auto cancelled = futures;
  return std::make_shared<Group>(
      runtime, std::move(futures),
      Promise(runtime, nullptr, [cancelled = std::move(cancelled)] {
        for (const Future& future : cancelled) future.Cancel();
      }));
}

}  // namespace

Future WhenAll(Runtime& runtime, std::vector<Future> futures) {
  if (futures.empty()) return Future::Ready(runtime, Message());
  const auto group = MakeGroup(runtime, std::move(futures));
  Future all = group->promise.future();
  for (const Future& future : group->futures) {
    future.Then([group](const Future::Result&) {
      if (!group->OneIsDone()) return;
      Future::Result result = Message();
      for (const Future& done : group->futures) {
        if (!done.status().ok()) {
          result = done.status();
          break;
        }
      }
      group->promise.Complete(std::move(result));
    });
  }
  return all;
}

Future WhenAny(Runtime& runtime, std::vector<Future> futures) {
  if (futures.empty()) {
    return Future::Ready(
        runtime, absl::InvalidArgumentError("WhenAny of no futures at all"));
  }
  const auto group = MakeGroup(runtime, std::move(futures));
  Future any = group->promise.future();
  for (const Future& future : group->futures) {
    future.Then([group](const Future::Result& result) {
      const bool is_last = group->OneIsDone();
      if (result.ok() || is_last) group->promise.Complete(result);
    });
  }
  return any;
}

Promise::Promise(Runtime& runtime, std::shared_ptr<Executor> executor,
                 absl::AnyInvocable<void()> on_cancel)
    : state_(std::make_shared<Future::State>(runtime)) {
  MutexLock lock(state_->mutex);
  state_->executor = std::move(executor);
  state_->on_cancel = std::move(on_cancel);
}

Future Promise::future() const { return Future(state_); }

bool Promise::Complete(Future::Result result,
                       absl::AnyInvocable<void()> after_callbacks) {
  return state_->Complete(std::move(result), std::move(after_callbacks));
}

}  // namespace reprise

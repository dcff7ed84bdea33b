#include "agent/group/probe.h"

#include <exception>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "agent/pipe/message_reader.h"
#include "agent/runtime/mutex.h"
#include "glog/logging.h"
#include "tensorpipe/core/pipe.h"

namespace reprise {
namespace {

// Shared with the callback, which may come when nobody waits any more.
struct Outcome {
  explicit Outcome(Runtime& runtime)
      : mutex(runtime, "Probe"), changed(runtime, "Probe.changed") {}
  Mutex mutex;
  CondVar changed;
  bool failed ABSL_GUARDED_BY(mutex) = false;
};

}  // namespace

bool NobodyListensAt(Runtime& runtime, tensorpipe::Context& context,
                     const std::string& address, absl::Time deadline) {
  std::shared_ptr<tensorpipe::Pipe> pipe;
  try {
    pipe = context.connect(address);
  } catch (const std::exception& error) {
    VLOG(1) << "cannot probe '" << address << "': " << error.what();
    return false;
  }
  const auto outcome = std::make_shared<Outcome>(runtime);
  pipe->readDescriptor(
      [outcome](const tensorpipe::Error& error, const tensorpipe::Descriptor&) {
        if (!error) return;
        VLOG(1) << "probe: " << Describe(error);
        MutexLock lock(outcome->mutex);
        outcome->failed = true;
        outcome->changed.NotifyAll();
      });
  bool failed = false;
  {
    MutexLock lock(outcome->mutex);
    while (!outcome->failed &&
           outcome->changed.WaitUntil(outcome->mutex, deadline)) {
    }
    failed = outcome->failed;
  }
  pipe->close();
  return failed;
}

}  // namespace reprise

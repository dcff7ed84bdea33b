// Threads that copy memory in pieces, so that a large copy delays nobody else's
// by more than a piece and can be stopped between two pieces.

#ifndef REPRISE_AGENT_TRANSPORT_CMA_COPIER_H_
#define REPRISE_AGENT_TRANSPORT_CMA_COPIER_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"

namespace reprise {

// Thread-safe. Must be joined before it is destroyed.
class Copier {
 public:
  // As much as is copied at a time: about a millisecond.
  static constexpr size_t kPieceBytes = size_t{4} << 20;
  static constexpr size_t kMaxThreads = 4;

  explicit Copier(Runtime& runtime) : runtime_(runtime) {}

  // Copies a piece, and returns whether there are more. Must not throw.
  using Step = std::function<bool()>;

  // Has a thread call `step` until it returns false; several take turns.
  // Threads are started as they are needed. When there is none and none can be
  // started, this call itself does so. Returns false, and never calls `step`,
  // after `Join`.
  bool Run(Step step);

  // Waits until all steps that were taken have returned false, and the threads
  // have ended.
  void Join();

 private:
  // False when there is no thread at all.
  bool StartThread() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Work();
  void Wait() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Runtime& runtime_;
  Mutex mutex_{runtime_, "Copier"};
  CondVar changed_{runtime_, "Copier.changed"};
  std::deque<Step> steps_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Thread>> threads_ ABSL_GUARDED_BY(mutex_);
  size_t num_idle_ ABSL_GUARDED_BY(mutex_) = 0;
  // Steps without a thread.
  size_t num_here_ ABSL_GUARDED_BY(mutex_) = 0;
  bool joining_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CMA_COPIER_H_

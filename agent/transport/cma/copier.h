// Threads that copy memory in pieces, so that a large copy delays nobody else's
// by more than a piece and can be stopped between two pieces.

#ifndef REPRISE_AGENT_TRANSPORT_CMA_COPIER_H_
#define REPRISE_AGENT_TRANSPORT_CMA_COPIER_H_

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace reprise {

// Thread-safe. Must be joined before it is destroyed.
class Copier {
 public:
  // As much as is copied at a time: about a millisecond.
  static constexpr size_t kPieceBytes = size_t{4} << 20;
  static constexpr size_t kMaxThreads = 4;

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
  bool StartThread();
  void Work();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Step> steps_;
  std::vector<std::thread> threads_;
  size_t num_idle_ = 0;
  size_t num_here_ = 0;  // steps without a thread
  bool joining_ = false;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CMA_COPIER_H_

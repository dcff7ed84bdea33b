// A board in the store on which each worker writes twice a second how far it
// has come. By it a scenario tells a peer that is there, and must be reachable,
// from a peer that is gone.

#ifndef REPRISE_TESTS_SCENARIOS_BOARD_H_
#define REPRISE_TESTS_SCENARIOS_BOARD_H_

#include <array>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"
#include "sim/scenario/scenario.h"

namespace reprise::scenarios {

// How far a worker has come, in this order.
enum class Stage {
  kStarting,
  kCalling,
  kFirstJoin,
  kCallingAgain,
  kLastJoin,
  kGone,
  kCount
};

// Thread-safe.
class Board {
 public:
  explicit Board(Worker& worker);
  ~Board();

  void Enter(Stage stage);

  // Whether `rank` has written in the last moments, has been at `stage` or
  // further since `since` at the latest, and is not gone. False if the store
  // does not answer.
  bool IsThere(int rank, Stage stage, absl::Time since);
  // Whether that is true of all workers.
  bool AllAreThere(Stage stage, absl::Time since);
  // When the last of the workers came to `stage`. Infinite if a worker has not
  // come to it, or if the store does not answer.
  absl::Time AllReached(Stage stage);
  // Whether `rank` has written that it leaves for good.
  bool IsGone(int rank);

 private:
  // When the present incarnation came to each stage, in nanoseconds of the
  // runtime's clock; kNever for a stage that it has not come to.
  using Times = std::array<int64_t, static_cast<size_t>(Stage::kCount)>;
  struct Entry {
    int64_t beat_ns = 0;
    Times reached_ns{};
  };

  void Beat();
  void Post();
  bool Read(int rank, Entry& entry);

  Worker& worker_;
  const std::shared_ptr<Store> store_;
  Mutex mutex_;
  CondVar changed_;
  Times reached_ns_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::unique_ptr<Thread> thread_;
};

}  // namespace reprise::scenarios

#endif  // REPRISE_TESTS_SCENARIOS_BOARD_H_

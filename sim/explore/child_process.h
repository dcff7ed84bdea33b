// A child process that makes runs, and the watch over it.
//
// The child is forked, so it has the parent's memory and nothing that it does
// to its own reaches the parent or another child. What it wants to tell it
// writes to a shared log. If it dies in a run, the record of its death is left.
// What it writes on standard error is kept, and passed on to the parent's.

#ifndef REPRISE_SIM_EXPLORE_CHILD_PROCESS_H_
#define REPRISE_SIM_EXPLORE_CHILD_PROCESS_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "sim/explore/death.h"
#include "sim/explore/shared_log.h"
#include "sim/scenario/run_result.h"

namespace reprise {

struct ChildOptions {
  // A run that has used so much CPU time, or in which the process has slept for
  // so long, hangs. A process that is ready and gets no CPU sleeps not.
  double max_seconds = 60;
  // The same since the run last wrote to the log; 0: no bound.
  double max_idle_seconds = 0;
  size_t log_bytes = size_t{4} << 30;
};

// Not thread-safe. The parent should have one thread, since only the thread
// that forks is in the child.
class ChildProcess {
 public:
  using Work = std::function<void(SharedLog& log)>;

  // Forks a child that calls `work` and ends. UNAVAILABLE if the system has no
  // more processes or memory.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(
      const ChildOptions& options, const Work& work);
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  // Ends the child if it still runs.
  ~ChildProcess();

  // Passes on its output, ends a run that hangs, and returns whether the child
  // has ended. To be called at least five times a second.
  bool HasEnded();
  // Readable when the child has ended; -1 if the system has no such thing.
  int fd() const { return pidfd_; }

  SharedLog& log() { return *log_; }

  // Valid when it has ended.
  bool ended_well() const;
  // Whether somebody else ended it, such as an interrupt of the whole command.
  bool was_interrupted() const;
  // The tag of the run in which it died, and what is to be said about that.
  uint64_t tag() const { return record_->tag; }
  const DeathRecord& record() const { return *record_; }
  void DescribeTo(RunResult& result);

 private:
  struct Unmap {
    void operator()(DeathRecord* record) const;
  };

  explicit ChildProcess(const ChildOptions& options) : options_(options) {}
  absl::Status Fork(const Work& work);
  void PassOnOutput();
  void Watch();
  void EndHang(std::string how);

  const ChildOptions options_;
  std::unique_ptr<SharedLog> log_;
  std::unique_ptr<DeathRecord, Unmap> record_;
  int output_ = -1;  // the file that is its standard error
  int64_t passed_on_ = 0;
  pid_t pid_ = -1;
  int pidfd_ = -1;
  int wait_status_ = 0;
  bool ended_ = false;
  // The watch, in nanoseconds.
  uint64_t watched_run_ = 0;
  uint64_t log_bytes_ = 0;
  int64_t cpu_ns_ = 0;       // of the child, at the last look
  int64_t looked_ns_ = 0;    // when that was
  int64_t awake_ns_ = 0;     // when it was last seen not to sleep
  int64_t idle_cpu_ns_ = 0;  // CPU time when it last wrote
  int64_t wrote_ns_ = 0;     // when it last wrote
  std::string hang_;         // how it hangs; empty if it does not
  int64_t hang_ns_ = 0;      // when it was told so
};

// Whether a debugger is attached to this process.
bool IsDebugged();

}  // namespace reprise

#endif  // REPRISE_SIM_EXPLORE_CHILD_PROCESS_H_

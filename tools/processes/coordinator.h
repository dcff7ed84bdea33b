// Starts the workers of a process run, makes the faults happen to them, and
// collects the events that they report.

#ifndef REPRISE_TOOLS_PROCESSES_COORDINATOR_H_
#define REPRISE_TOOLS_PROCESSES_COORDINATOR_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "fault_injection/fault.h"
#include "sim/scenario/run_result.h"
#include "sim/trace/trace.h"
#include "tools/processes/judge.h"
#include "tools/processes/process_run.h"
#include "tools/processes/worker_child.h"

namespace reprise {

// One run. Not thread-safe. No process is left after `Run` has returned.
class Coordinator {
 public:
  // `faults` are of kinds that exist between processes (fault_kind.h). The
  // store and the workers' files are made in `directory`. All arguments must
  // outlive the coordinator.
  Coordinator(const ProcessRunOptions& options,
              const std::vector<Fault>& faults, std::string directory);

  // Where the workers' files are; it is there if a worker has asked for some.
  static std::string FilesIn(const std::string& directory);

  // Blocks until the run is over. An error means that a process could not be
  // started; failures are in the result.
  absl::Status Run();

  // The result without `faults`. To be called once, after `Run`.
  RunResult TakeResult();

 private:
  struct Member {
    std::unique_ptr<WorkerChild> child;  // null once it has died
    int incarnation = -1;
    bool ended_body = false;        // of this incarnation
    const Fault* crash = nullptr;   // the fault by which it was killed
    const Fault* killed = nullptr;  // the fault by which it died for good
    const Fault* pause = nullptr;   // the fault by which it was told to stop
    bool stopped = false;           // it has stopped
    int64_t continue_at_ns = kForEver;
    int64_t restart_at_ns = kForEver;  // when the next incarnation starts
  };

  int64_t Now() const { return MonotonicNanoseconds() - start_ns_; }
  bool IsOver() const;
  absl::Status StartWorker(int32_t rank);
  void Record(int32_t node, const EventDetails& details);
  void OnTraceLine(int32_t rank, std::string_view line);
  void OnEvent(const Event& event);
  void Begin(const Fault& fault);
  void Injected(const Fault& fault, int64_t until_ns);
  // Does what is due by now: faults, restarts, the ends of pauses.
  absl::Status DoWhatIsDue();
  // How long to wait for the workers.
  int PollTimeoutMs() const;
  void WaitForWorkers();
  void Look(int32_t rank);
  void Died(int32_t rank);
  // After a failure: whoever died at about that time is the likely cause.
  void LookForTheLost();
  void KillAll();
  // Ends the run.
  void Fail(std::string_view rule, std::string detail, int64_t failed_ns);
  bool failed() const { return !end_.rule.empty(); }

  const ProcessRunOptions& options_;
  const std::vector<Fault>& faults_;
  const std::string directory_;
  const int64_t start_ns_;  // of MonotonicNanoseconds
  std::vector<Member> members_;
  std::vector<int64_t> events_seen_;  // per fault
  std::vector<bool> begun_;           // per fault at a time
  std::vector<bool> struck_;          // per fault
  std::vector<std::string> lost_;     // who died, and of what
  std::vector<Event> events_;
  std::map<std::string, int64_t> injections_;
  ProcessRunEnd end_;
};

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_COORDINATOR_H_

// The results of runs in a shared log, and the recorder that writes down a run
// as it goes, for the case that its process dies.

#ifndef REPRISE_SIM_EXPLORE_RESULT_LOG_H_
#define REPRISE_SIM_EXPLORE_RESULT_LOG_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "sim/explore/shared_log.h"
#include "sim/scenario/run_result.h"
#include "sim/world/world.h"

namespace reprise {

// The types of entries.
inline constexpr char kEventEntry = 'E';
inline constexpr char kDecisionEntry = 'D';
inline constexpr char kRestartEntry = 'B';  // earlier decisions do not count
inline constexpr char kPlanEntry = 'P';     // the faults, a text each
inline constexpr char kResultEntry = 'R';   // a number, then a result
inline constexpr char kErrorEntry = 'X';    // the code and text of a status

// Each writes an entry. A result is written without its events and decisions,
// which have entries of their own. `tag` is the caller's. They return false if
// the log is full.
bool WriteEvent(SharedLog& log, const Event& event);
bool WriteDecision(SharedLog& log, const Decision& decision);
bool WritePlan(SharedLog& log, const std::vector<std::string>& faults);
bool WriteResult(SharedLog& log, uint64_t tag, const RunResult& result);
bool WriteError(SharedLog& log, const absl::Status& status);

// Each reads the fields of the entry at which the log is.
Event ReadEvent(SharedLog& log);
Decision ReadDecision(SharedLog& log);
std::vector<std::string> ReadPlan(SharedLog& log);
RunResult ReadResult(SharedLog& log, uint64_t& tag);
absl::Status ReadError(SharedLog& log);

// Writes down a run whose events and decisions are kept: at each event that a
// listener sees, and once more when the process is about to die. Not
// thread-safe: it is the run's.
class RunRecorder {
 public:
  explicit RunRecorder(SharedLog& log) : log_(log) {}

  void NotePlan(const std::vector<std::string>& faults) {
    WritePlan(log_, faults);
  }
  // From now on, until `Detach`. `Sync` may be called in a signal handler.
  void Attach(World& world);
  void Detach() {
    Sync();
    world_ = nullptr;
  }
  void Sync();

  // Whether there was room for everything.
  bool is_whole() const { return is_whole_; }

 private:
  SharedLog& log_;
  World* world_ = nullptr;
  size_t events_ = 0;  // written so far
  size_t decisions_ = 0;
  bool is_whole_ = true;
};

}  // namespace reprise

#endif  // REPRISE_SIM_EXPLORE_RESULT_LOG_H_

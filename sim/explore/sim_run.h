// One run of a scenario in a simulated world.

#ifndef REPRISE_SIM_EXPLORE_SIM_RUN_H_
#define REPRISE_SIM_EXPLORE_SIM_RUN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sim/network/network.h"
#include "sim/scenario/run_result.h"
#include "sim/scenario/scenario.h"
#include "sim/world/scheduler.h"

namespace reprise {

class RunRecorder;

// Which implementation of the runtime seam the workers have.
enum class RuntimeKind : uint8_t {
  kSimulated,  // `SimRuntime`
  kReal,       // that of production, for which libc is simulated beneath
};

struct SimRunOptions {
  const Scenario* scenario = nullptr;
  uint64_t seed = 1;
  ScenarioParams params;  // a value for each parameter of the scenario
  ScheduleOptions schedule;
  RuntimeKind runtime = RuntimeKind::kSimulated;
  NetworkOptions network;
  // The plan, a fault line each; unset: what the scenario draws for the seed.
  std::optional<std::vector<std::string>> faults;
  // Lines of a topology that come behind those of the scenario; unset: what the
  // scenario draws for the seed.
  std::optional<std::vector<std::string>> topology;
  // The decisions to follow; null: they are drawn. Must outlive the run.
  const std::vector<Decision>* recording = nullptr;
  bool keep_trace = false;  // keep the events and decisions
  // Whether the scratch directory of a run that fails is kept.
  bool keep_scratch = false;
  uint64_t scatter = 0;  // shuffles heap addresses by this; 0: does not
  // Bounds of the run below those of the scenario and the world; 0: none. A run
  // beyond them fails by the rule `progress` or `time-limit`.
  int64_t max_points = 0;
  int64_t max_time_ns = 0;
  size_t stack_bytes = 0;  // of each fiber; 0: StackPool::kDefaultBytes
  // Writes down what is kept as the run goes; null: nothing does. For
  // isolated_run.h.
  RunRecorder* recorder = nullptr;
  // For `RunIsolated`, which says what they mean.
  bool in_process = false;
  double max_wall_seconds = 60;
  double max_idle_seconds = 0;
};

// A `max_idle_seconds` for runs that are known to hang: they are recognised
// sooner.
inline constexpr double kHangIdleSeconds = 2;

// What the threads of the run are: what the schedule says, unless the scenario
// or the runtime needs OS threads.
ContextKind ContextOf(const SimRunOptions& options);

// The lines of the topology that the run has beyond the scenario's own.
std::vector<std::string> TopologyOf(const SimRunOptions& options);

// Runs it on the calling thread, in this process: a run that crashes or hangs
// takes the process along (isolated_run.h). The result depends on the options
// only, except for `wall_seconds`. Several OS threads may have a run each at
// the same time. INVALID_ARGUMENT if a line of a fault or of the topology is
// wrong; FAILED_PRECONDITION for fibers in a build with ThreadSanitizer. A
// violated rule is in the result.
absl::StatusOr<RunResult> RunSimulated(const SimRunOptions& options);

}  // namespace reprise

#endif  // REPRISE_SIM_EXPLORE_SIM_RUN_H_

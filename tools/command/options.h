// The flags of a simulated run on the command line.

#ifndef REPRISE_TOOLS_COMMAND_OPTIONS_H_
#define REPRISE_TOOLS_COMMAND_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"
#include "sim/explore/sim_run.h"
#include "sim/scenario/scenario.h"
#include "sim/world/scheduler.h"

namespace reprise {

// How simulated runs use the machine. `replay` has these flags as well.
struct IsolationFlags {
  bool in_process = false;
  uint64_t stack_kib = 0;  // 0: the default
  double max_wall_seconds_per_seed = 60;

  void AddTo(CLI::App& app);
  // A debugger that is attached turns `in_process` on.
  void ApplyTo(SimRunOptions& options) const;
};

// The flags that `run`, `explore` and `verify` share.
struct RunFlags {
  std::string scenario = {};
  uint64_t seed = 1;
  std::vector<std::string> params = {};  // "k=v"
  std::string workers = {};              // their number; empty: the scenario's
  std::vector<std::string> faults = {};  // fault lines; none with `no_faults`
  bool no_faults = false;
  std::string topology = {};  // the path of a file of lines; empty: none
  std::string schedule = "random";
  double switch_probability = 0.5;
  double stall_probability = 0.02;
  int pct_depth = 3;
  int64_t pct_length = 0;  // 0: measured
  bool tensorpipe_locks = false;
  ContextKind context = kDefaultContext;
  RuntimeKind runtime = RuntimeKind::kSimulated;
  int64_t max_stall_us = 50;
  IsolationFlags isolation = {};

  // Declares the flags on a subcommand.
  void AddTo(CLI::App& app, bool with_seed);

  // The scenario's parameters, the number of workers among them, with those
  // that are given; `in_processes` means the defaults of such runs.
  absl::StatusOr<ScenarioParams> ToParams(bool in_processes = false) const;

  // INVALID_ARGUMENT if the scenario, the schedule or a parameter is wrong.
  absl::Status Check() const;

  // INVALID_ARGUMENT says what is wrong and which values there are.
  absl::StatusOr<SimRunOptions> ToOptions() const;

  // The same flags as arguments for another process.
  std::vector<std::string> ToArguments(uint64_t for_seed,
                                       int64_t measured_pct_length) const;

  // The schedule for replay files: "random", "pct", ...
  std::string Describe() const;
};

// Declares --context on a subcommand.
void AddContextFlag(CLI::App& app, ContextKind& context);

// Declares --runtime on a subcommand; `take` is given its value.
CLI::Option* AddRuntimeFlag(CLI::App& app,
                            std::function<void(RuntimeKind)> take,
                            const std::string& help);

absl::StatusOr<const Scenario*> FindScenario(const std::string& name);

// The scenario's parameters: those of `given`, and the defaults of the others.
// INVALID_ARGUMENT for one that the scenario does not have, and for a value
// that is out of its range.
absl::StatusOr<ScenarioParams> ResolveParams(
    const Scenario& scenario, const std::vector<std::string>& given);

// The same with the defaults of runs over real transports.
absl::StatusOr<ScenarioParams> ResolveProcessParams(
    const Scenario& scenario, const std::vector<std::string>& given);

}  // namespace reprise

#endif  // REPRISE_TOOLS_COMMAND_OPTIONS_H_

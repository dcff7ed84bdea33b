// `reprise worker`.

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "agent/device/cuda/cuda_driver.h"
#include "sim/view/story.h"
#include "tools/command/report.h"
#include "tools/command/subcommands.h"
#include "tools/processes/gpu_choice.h"
#include "tools/processes/remote_run.h"

namespace reprise {
namespace {

const char* GetEnvironment(const char* name) { return std::getenv(name); }

absl::StatusOr<GpuChoice> ChooseGpus(const WorkerCommand& command) {
  const absl::StatusOr<const Scenario*> scenario =
      FindScenario(command.scenario);
  if (!scenario.ok()) return scenario.status();
  return ChooseGpusOfWorker(**scenario, command.device, GetEnvironment,
                            FindCudaDriver);
}

absl::StatusOr<RemoteRunOptions> ToOptions(const WorkerCommand& command) {
  RemoteRunOptions options;
  absl::StatusOr<const Scenario*> scenario = FindScenario(command.scenario);
  if (!scenario.ok()) return scenario.status();
  options.scenario = *scenario;
  absl::StatusOr<ScenarioParams> params =
      ResolveProcessParams(**scenario, command.params);
  if (!params.ok()) return params.status();
  options.params = *std::move(params);
  absl::StatusOr<WorkerIdentity> identity =
      ResolveIdentity(command.identity, (*scenario)->workers, GetEnvironment);
  if (!identity.ok()) return identity.status();
  options.identity = *std::move(identity);
  if ((*scenario)->worker_range) {
    options.params[std::string(kWorkersParam)] = options.identity.world_size;
    if (absl::Status status = CheckParams(**scenario, options.params);
        !status.ok()) {
      return status;
    }
  }
  options.seed = command.seed;
  // On "cuda", all transports that work here.
  if (command.on != "cuda") options.transports = {command.on};
  options.bind_address = command.bind_address;
  options.max_wall_time = absl::Seconds(command.max_wall_seconds);
  return options;
}

void Print(const RemoteRunOptions& options, const RemoteRun& run) {
  const RunResult& result = run.result;
  const std::string outcome =
      result.held() ? "held" : absl::StrCat("VIOLATED ", result.rule);
  if (options.identity.is_coordinator()) {
    for (const std::string& line : TellStory(result)) {
      PrintLine(line);
    }
    PrintLine(absl::StrFormat(
        "%s seed %d, %d workers: %s; %d events, %.3f s; clocks agree to %.3f "
        "ms",
        options.scenario->name, options.seed, options.identity.world_size,
        result.held() ? "everything held" : outcome, result.num_events,
        result.wall_seconds, static_cast<double>(run.clock_error_ns) * 1e-6));
    for (const std::string& line : DescribeReach(result)) PrintLine(line);
    return;
  }
  PrintLine(absl::StrFormat(
      "w%d: its own checks: %s; %d events, %.3f s; the "
      "rest is checked by w0",
      options.identity.rank, outcome, result.num_events, result.wall_seconds));
  if (!result.held()) PrintLine(result.detail);
}

}  // namespace

int DoWorker(const CommonFlags& common, const WorkerCommand& command) {
  if (command.trace_path == "-" && common.json) {
    return UsageError(TraceAndJson(), common.json);
  }
  absl::StatusOr<RemoteRunOptions> options = ToOptions(command);
  if (!options.ok()) return UsageError(options.status(), common.json);
  const absl::StatusOr<GpuChoice> gpus = ChooseGpus(command);
  if (!gpus.ok()) return UsageError(gpus.status(), common.json);
  options->driver = gpus->driver;
  options->gpus =
      GpusOfRank(gpus->gpus, /*rank=*/0, options->scenario->gpus_per_host);
  const absl::StatusOr<RemoteRun> run = RunRemoteWorker(*options);
  if (!run.ok()) return UsageError(run.status(), common.json);
  int code = run->result.held() ? kHeld : kViolated;
  if (!command.trace_path.empty()) {
    const absl::Status status = WriteTrace(command.trace_path, run->result);
    if (!status.ok()) code = UsageError(status, common.json);
  }
  if (code == kUsage) {
    // The error was printed above.
  } else if (common.json) {
    Json json = ToJson(run->result, options->scenario->name, options->seed,
                       /*simulated=*/false);
    json["on"] = command.on;
    json["worker"] = absl::StrCat("w", options->identity.rank);
    json["workers"] = options->identity.world_size;
    json["run_id"] = options->identity.run_id;
    json["coordinator"] = options->identity.is_coordinator();
    json["devices"] = GpusToJson(options->gpus);
    json["clock_error_ms"] = static_cast<double>(run->clock_error_ns) * 1e-6;
    PrintJson(json);
  } else {
    PrintLine(
        absl::StrCat("w", options->identity.rank, ": ", gpus->description));
    Print(*options, *run);
  }
  if (run->hung) {
    std::fflush(nullptr);
    std::_Exit(code);
  }
  return code;
}

}  // namespace reprise

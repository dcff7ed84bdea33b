// `reprise list`, `reprise run`, `reprise doctor`.

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "agent/device/cuda/cuda_driver.h"
#include "sim/explore/sim_run.h"
#include "sim/view/story.h"
#include "tools/command/doctor.h"
#include "tools/command/report.h"
#include "tools/command/subcommands.h"
#include "tools/processes/gpu_choice.h"
#include "tools/processes/process_run.h"

namespace reprise {
namespace {

constexpr size_t kStoryLines = 40;

bool IsOnGpus(const RunCommand& command) { return command.on == "cuda"; }

absl::Status CheckOn(const RunCommand& command) {
  if (command.on != "sim" && command.on != "uv" && command.on != "shm" &&
      !IsOnGpus(command)) {
    return absl::InvalidArgumentError("--on " + command.on +
                                      ": there are sim, shm, uv and cuda");
  }
  if (!command.device.empty() && !IsOnGpus(command)) {
    return absl::InvalidArgumentError("--device " + command.device +
                                      ": give it with --on cuda");
  }
  return absl::OkStatus();
}

// No GPUs unless the run is on GPUs.
absl::StatusOr<GpuChoice> ChooseGpus(const RunCommand& command) {
  if (!IsOnGpus(command)) return GpuChoice();
  const absl::StatusOr<const Scenario*> scenario =
      FindScenario(command.run.scenario);
  if (!scenario.ok()) return scenario.status();
  return ChooseGpusOfRun(**scenario, command.device, FindCudaDriver);
}

absl::StatusOr<RunResult> RunOn(const RunCommand& command,
                                const GpuChoice& gpus,
                                const std::string& plant) {
  if (command.on == "sim") {
    absl::StatusOr<SimRunOptions> options = command.run.ToOptions();
    if (!options.ok()) return options.status();
    options->keep_trace = true;
    return RunSimulated(*options);
  }
  ProcessRunOptions options;
  absl::StatusOr<const Scenario*> scenario = FindScenario(command.run.scenario);
  if (!scenario.ok()) return scenario.status();
  options.scenario = *scenario;
  absl::StatusOr<ScenarioParams> params =
      ResolveProcessParams(**scenario, command.run.params);
  if (!params.ok()) return params.status();
  options.params = *std::move(params);
  options.seed = command.run.seed;
  options.transports = {command.on};
  if (IsOnGpus(command)) options.transports = {"shm", "uv"};
  options.gpus = gpus.gpus;
  options.plant = plant;
  options.max_wall_time = absl::Seconds(command.max_wall_seconds);
  if (command.run.no_faults || !command.run.faults.empty()) {
    options.faults = command.run.faults;
  }
  return RunInProcesses(options);
}

// The devices of each worker: {"w0": ["cuda:0", "cuda:1"], ...}.
Json DevicesOf(const Scenario& scenario, const GpuChoice& choice) {
  Json devices = Json::object();
  for (int rank = 0; rank < scenario.workers; ++rank) {
    devices[absl::StrCat("w", rank)] =
        GpusToJson(GpusOfRank(choice.gpus, rank, scenario.gpus_per_host));
  }
  return devices;
}

}  // namespace

int DoList(const CommonFlags& common) {
  Json list = Json::array();
  for (const auto& [name, scenario] : AllScenarios()) {
    Json params = Json::object();
    for (const auto& [param, value] : scenario.params) params[param] = value;
    list.push_back({{"name", name},
                    {"description", scenario.description},
                    {"workers", scenario.workers},
                    {"params", params},
                    {"probes", scenario.probes},
                    {"faults", scenario.fault_kinds},
                    {"gpus", scenario.gpus_per_host},
                    {"enough_seeds", scenario.enough_seeds}});
    if (common.json) continue;
    PrintLine(absl::StrFormat("%-18s %2d workers  %s", name, scenario.workers,
                              scenario.description));
    if (!scenario.params.empty()) {
      PrintLine(absl::StrFormat(
          "%18s             parameters: %s", "",
          absl::StrJoin(scenario.params, ", ",
                        [](std::string* out, const auto& entry) {
                          absl::StrAppend(out, entry.first, "=", entry.second);
                        })));
    }
  }
  if (common.json) PrintJson(Json{{"scenarios", list}});
  return kHeld;
}

int DoRun(const CommonFlags& common, const RunCommand& command) {
  if (absl::Status status = CheckOn(command); !status.ok()) {
    return UsageError(status, common.json);
  }
  const absl::StatusOr<GpuChoice> gpus = ChooseGpus(command);
  if (!gpus.ok()) return UsageError(gpus.status(), common.json);
  absl::StatusOr<RunResult> result = RunOn(command, *gpus, common.plant);
  if (!result.ok()) return UsageError(result.status(), common.json);
  if (!command.trace_path.empty()) {
    absl::Status status = WriteTrace(command.trace_path, *result);
    if (!status.ok()) return UsageError(status, common.json);
  }
  if (common.json) {
    Json json = ToJson(*result, command.run.scenario, command.run.seed);
    if (IsOnGpus(command)) {
      json["devices"] = DevicesOf(**FindScenario(command.run.scenario), *gpus);
    }
    PrintJson(json);
  } else {
    for (const std::string& line : TellStory(*result, kStoryLines)) {
      PrintLine(line);
    }
    if (IsOnGpus(command)) PrintLine(gpus->description);
    PrintLine(absl::StrFormat(
        "%s seed %d: %s; hash %s, %d events, %.3f s simulated in %.3f s",
        command.run.scenario, command.run.seed,
        result->held() ? "everything held" : "VIOLATED " + result->rule,
        HashText(result->hash), result->num_events, result->sim_seconds,
        result->wall_seconds));
  }
  return result->held() ? kHeld : kViolated;
}

int DoDoctor(const CommonFlags& common) {
  const DoctorReport report = RunDoctor();
  if (common.json) {
    PrintJson(Json(ToJson(report)));
  } else {
    PrintLine(ToText(report));
  }
  return kHeld;
}

}  // namespace reprise

// `reprise list`, `reprise run`, `reprise doctor`.

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "sim/explore/isolated_run.h"
#include "sim/view/story.h"
#include "tools/command/doctor.h"
#include "tools/command/process_flags.h"
#include "tools/command/report.h"
#include "tools/command/subcommands.h"
#include "tools/processes/gpu_choice.h"

namespace reprise {
namespace {

absl::StatusOr<RunResult> RunOn(const RunCommand& command,
                                const std::string& plant) {
  if (command.on == "sim") {
    absl::StatusOr<SimRunOptions> options = command.run.ToOptions();
    if (!options.ok()) return options.status();
    options->keep_trace = true;
    options->keep_scratch = true;
    return RunIsolated(*options);
  }
  absl::StatusOr<ProcessRunOptions> options = ToProcessOptions(
      command.run, command.on, command.device, command.max_wall_seconds);
  if (!options.ok()) return options.status();
  options->plant = plant;
  return RunInProcesses(*options);
}

// The devices of each worker: {"w0": ["cuda:0", "cuda:1"], ...}.
Json DevicesOf(const Scenario& scenario, int workers, const GpuChoice& choice) {
  Json devices = Json::object();
  for (int rank = 0; rank < workers; ++rank) {
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
    Json ranges = Json::object();
    for (const auto& [param, value] : scenario.params) {
      const ParamRange range = RangeOf(scenario, param);
      params[param] = value;
      ranges[param] = {range.min, range.max};
    }
    list.push_back({{"name", name},
                    {"description", scenario.description},
                    {"workers", scenario.workers},
                    {"params", params},
                    {"param_ranges", ranges},
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
  if (command.trace_path == "-" && common.json) {
    return UsageError(TraceAndJson(), common.json);
  }
  const bool simulated = command.on == "sim";
  const absl::StatusOr<GpuChoice> gpus =
      ChooseGpus(command.run, command.on, command.device);
  if (!gpus.ok()) return UsageError(gpus.status(), common.json);
  absl::StatusOr<RunResult> result = RunOn(command, common.plant);
  if (!result.ok()) return UsageError(result.status(), common.json);
  if (!command.trace_path.empty()) {
    absl::Status status = WriteTrace(command.trace_path, *result);
    if (!status.ok()) return UsageError(status, common.json);
  }
  if (common.json) {
    Json json =
        ToJson(*result, command.run.scenario, command.run.seed, simulated);
    json["on"] = command.on;
    if (command.on == "cuda") {
      json["devices"] =
          DevicesOf(**FindScenario(command.run.scenario),
                    NumWorkers(**FindScenario(command.run.scenario),
                               *command.run.ToParams(/*in_processes=*/true)),
                    *gpus);
    }
    PrintJson(json);
  } else {
    for (const std::string& line :
         command.all ? TellEverything(*result) : TellStory(*result)) {
      PrintLine(line);
    }
    PrintStacks(result->stacks);
    if (command.on == "cuda") PrintLine(gpus->description);
    for (const std::string& line : DescribeReach(*result)) PrintLine(line);
    const std::string outcome =
        result->held() ? "everything held" : "VIOLATED " + result->rule;
    if (simulated) {
      PrintLine(absl::StrFormat(
          "%s seed %d: %s; hash %s, %d events, %.3f s simulated in %.3f s",
          command.run.scenario, command.run.seed, outcome,
          HashText(result->hash), result->num_events, result->sim_seconds,
          result->wall_seconds));
    } else {
      PrintLine(absl::StrFormat("%s seed %d on %s: %s; %d events in %.3f s",
                                command.run.scenario, command.run.seed,
                                command.on, outcome, result->num_events,
                                result->wall_seconds));
    }
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

#include "tools/processes/process_run.h"

#include <unistd.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fault_injection/fault.h"
#include "fault_injection/fault_kind.h"
#include "sim/scenario/scratch_directory.h"
#include "tools/processes/coordinator.h"
#include "tools/processes/interruption.h"

namespace reprise {
namespace {

// Whether a worker process or its coordinator records such events.
bool IsOfProcesses(EventKind kind) {
  return kind < EventKind::kConnect || kind > EventKind::kFiberEnded;
}

// "'crash' (kill -9) and 'pause' (stop and continue)".
std::string KindsBetweenProcesses() {
  std::vector<std::string> kinds;
  for (const FaultKindInfo& kind : FaultKinds()) {
    if (kind.in_processes.empty()) continue;
    kinds.push_back(absl::StrCat("'", std::string(kind.word), "' (",
                                 std::string(kind.in_processes), ")"));
  }
  return absl::StrJoin(kinds, " and ");
}

absl::Status CheckFault(const Fault& fault) {
  if (InfoOf(fault.kind).in_processes.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "fault '", fault.text, "': '", std::string(ToString(fault.kind)),
        "' exists in the simulator only; between processes there are ",
        KindsBetweenProcesses()));
  }
  if (fault.at_event && !IsOfProcesses(fault.event)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "fault '", fault.text, "': only the simulator sees the event ",
        std::string(ToString(fault.event))));
  }
  return absl::OkStatus();
}

absl::Status CheckTransports(const ProcessRunOptions& options) {
  if (options.transports.empty()) {
    return absl::InvalidArgumentError("processes talk over uv or shm");
  }
  for (const std::string& transport : options.transports) {
    if (transport == "uv" || transport == "shm") continue;
    return absl::InvalidArgumentError(
        absl::StrCat("processes talk over uv or shm, not '", transport, "'"));
  }
  return absl::OkStatus();
}

// Without GPUs such a scenario would do nothing, and hold.
absl::Status CheckGpus(const ProcessRunOptions& options) {
  const Scenario& scenario = *options.scenario;
  if (scenario.gpus_per_host == 0 || !options.gpus.empty()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      scenario.name,
      " puts tensors on GPUs: run it with --on cuda on a machine that has "
      "some, or with --on sim on simulated ones"));
}

absl::StatusOr<std::vector<std::string>> PlanOf(
    const ProcessRunOptions& options) {
  if (options.faults) return *options.faults;
  if (!options.scenario->process_faults) return std::vector<std::string>();
  return options.scenario->process_faults(Draws(options.seed, "faults"),
                                          options.params);
}

}  // namespace

absl::StatusOr<RunResult> RunInProcesses(const ProcessRunOptions& options) {
  if (absl::Status status = CheckTransports(options); !status.ok()) {
    return status;
  }
  if (absl::Status status = CheckGpus(options); !status.ok()) return status;
  if (absl::Status status = CheckParams(*options.scenario, options.params);
      !status.ok()) {
    return status;
  }
  const auto lines = PlanOf(options);
  if (!lines.ok()) return lines.status();
  const auto faults =
      ParseFaults(*lines, NumWorkers(*options.scenario, options.params));
  if (!faults.ok()) return faults.status();
  for (const Fault& fault : *faults) {
    if (absl::Status status = CheckFault(fault); !status.ok()) return status;
  }
  // It outlives all that has to be tidied up.
  Interruption interruption;
  auto directory = ScratchDirectory::Make();
  if (!directory.ok()) return directory.status();
  Coordinator coordinator(options, *faults, directory->path());
  if (absl::Status status = coordinator.Run(); !status.ok()) return status;
  RunResult result = coordinator.TakeResult();
  result.faults = *lines;
  const std::string files = Coordinator::FilesIn(directory->path());
  if (options.keep_scratch && !result.held() &&
      access(files.c_str(), F_OK) == 0) {
    result.scratch_directory = files;
    (void)std::move(*directory).Keep();
  }
  return result;
}

}  // namespace reprise

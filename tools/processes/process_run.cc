#include "tools/processes/process_run.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "fault_injection/fault.h"
#include "tools/processes/coordinator.h"
#include "tools/processes/interruption.h"
#include "tools/processes/scratch_directory.h"

namespace reprise {
namespace {

// Whether a worker process, or its coordinator, can tell of it.
bool IsOfProcesses(EventKind kind) {
  return kind < EventKind::kConnect || kind > EventKind::kFiberEnded;
}

absl::Status CheckFault(const Fault& fault) {
  if (fault.kind != FaultKind::kCrash && fault.kind != FaultKind::kPause) {
    return absl::InvalidArgumentError(absl::StrCat(
        "fault '", fault.text,
        "': between processes there are 'crash' (kill -9) and 'pause' (stop "
        "and continue); '",
        std::string(ToString(fault.kind)), "' is the simulator's"));
  }
  if (fault.at_event && !IsOfProcesses(fault.event)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "fault '", fault.text, "': only the simulator sees the event ",
        std::string(ToString(fault.event))));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> PlanOf(
    const ProcessRunOptions& options) {
  if (options.faults) return *options.faults;
  if (!options.scenario->process_faults) return std::vector<std::string>();
  RandomStream random(options.seed, "faults");
  return options.scenario->process_faults(random, options.params);
}

}  // namespace

absl::StatusOr<RunResult> RunInProcesses(const ProcessRunOptions& options) {
  if (options.transport != "uv" && options.transport != "shm") {
    return absl::InvalidArgumentError(absl::StrCat(
        "processes talk over uv or shm, not '", options.transport, "'"));
  }
  const auto lines = PlanOf(options);
  if (!lines.ok()) return lines.status();
  const auto faults = ParseFaults(*lines, options.scenario->workers);
  if (!faults.ok()) return faults.status();
  for (const Fault& fault : *faults) {
    if (absl::Status status = CheckFault(fault); !status.ok()) return status;
  }
  // Outlives what has to be tidied up.
  Interruption interruption;
  const auto directory = ScratchDirectory::Make();
  if (!directory.ok()) return directory.status();
  Coordinator coordinator(options, *faults,
                          absl::StrCat("file://", directory->path(), "/store"));
  if (absl::Status status = coordinator.Run(); !status.ok()) return status;
  RunResult result = coordinator.TakeResult();
  result.faults = *lines;
  return result;
}

}  // namespace reprise

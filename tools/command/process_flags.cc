#include "tools/command/process_flags.h"

#include <utility>

#include "absl/time/time.h"
#include "agent/device/cuda/cuda_driver.h"

namespace reprise {

absl::Status CheckOn(const std::string& on, const std::string& device) {
  if (on != "sim" && on != "uv" && on != "shm" && on != "cuda") {
    return absl::InvalidArgumentError("--on " + on +
                                      ": there are sim, shm, uv and cuda");
  }
  if (!device.empty() && on != "cuda") {
    return absl::InvalidArgumentError("--device " + device +
                                      ": give it with --on cuda");
  }
  return absl::OkStatus();
}

absl::StatusOr<GpuChoice> ChooseGpus(const RunFlags& run, const std::string& on,
                                     const std::string& device) {
  if (absl::Status status = CheckOn(on, device); !status.ok()) return status;
  if (on != "cuda") return GpuChoice();
  const absl::StatusOr<const Scenario*> scenario = FindScenario(run.scenario);
  if (!scenario.ok()) return scenario.status();
  return ChooseGpusOfRun(**scenario, device, FindCudaDriver);
}

absl::StatusOr<ProcessRunOptions> ToProcessOptions(const RunFlags& run,
                                                   const std::string& on,
                                                   const std::string& device,
                                                   int64_t max_wall_seconds) {
  ProcessRunOptions options;
  absl::StatusOr<GpuChoice> gpus = ChooseGpus(run, on, device);
  if (!gpus.ok()) return gpus.status();
  options.gpus = std::move(gpus->gpus);
  absl::StatusOr<const Scenario*> scenario = FindScenario(run.scenario);
  if (!scenario.ok()) return scenario.status();
  options.scenario = *scenario;
  absl::StatusOr<ScenarioParams> params = run.ToParams(/*in_processes=*/true);
  if (!params.ok()) return params.status();
  options.params = *std::move(params);
  options.seed = run.seed;
  options.transports = {on};
  if (on == "cuda") options.transports = {"shm", "uv"};
  options.max_wall_time = absl::Seconds(max_wall_seconds);
  options.keep_scratch = true;
  if (run.no_faults && !run.faults.empty()) {
    return absl::InvalidArgumentError(
        "--fault and --no-faults exclude each other");
  }
  if (!run.topology.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--topology says what a simulated network is like; run it "
                     "without --on ",
                     on));
  }
  if (run.no_faults || !run.faults.empty()) options.faults = run.faults;
  return options;
}

}  // namespace reprise

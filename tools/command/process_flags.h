// Where a run takes place, as `--on` and `--device` say it.

#ifndef REPRISE_TOOLS_COMMAND_PROCESS_FLAGS_H_
#define REPRISE_TOOLS_COMMAND_PROCESS_FLAGS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/command/options.h"
#include "tools/processes/gpu_choice.h"
#include "tools/processes/process_run.h"

namespace reprise {

// INVALID_ARGUMENT unless `on` is sim, uv, shm or cuda, and `device` fits it.
absl::Status CheckOn(const std::string& on, const std::string& device);

// The GPUs of a run: none unless it is on cuda.
absl::StatusOr<GpuChoice> ChooseGpus(const RunFlags& run, const std::string& on,
                                     const std::string& device);

// The options of runs on uv, shm or cuda. INVALID_ARGUMENT says what is wrong
// and what there is.
absl::StatusOr<ProcessRunOptions> ToProcessOptions(const RunFlags& run,
                                                   const std::string& on,
                                                   const std::string& device,
                                                   int64_t max_wall_seconds);

}  // namespace reprise

#endif  // REPRISE_TOOLS_COMMAND_PROCESS_FLAGS_H_

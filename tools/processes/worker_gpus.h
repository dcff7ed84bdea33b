// The GPUs that the scenario of one worker sees, in a process of its own.

#ifndef REPRISE_TOOLS_PROCESSES_WORKER_GPUS_H_
#define REPRISE_TOOLS_PROCESSES_WORKER_GPUS_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/device/devices.h"
#include "agent/device/driver.h"
#include "tools/processes/selected_gpus.h"

namespace reprise {

// Must outlive all agents and storages of the worker.
class WorkerGpus {
 public:
  // The scenario's cuda:0, cuda:1 and so on are the GPUs `gpus` of `driver`, in
  // this order. The GPUs are tried: an error of the driver names the GPU that
  // cannot be used, and INVALID_ARGUMENT one that is not there. `driver` must
  // outlive the result.
  static absl::StatusOr<std::unique_ptr<WorkerGpus>> Open(
      GpuDriver& driver, const std::vector<int>& gpus);

  Devices& devices() { return devices_; }

 private:
  WorkerGpus(GpuDriver& driver, std::vector<int> gpus);

  SelectedGpus selected_;
  Devices devices_;
};

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_WORKER_GPUS_H_

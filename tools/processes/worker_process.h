// The worker process that RunInProcesses starts.

#ifndef REPRISE_TOOLS_PROCESSES_WORKER_PROCESS_H_
#define REPRISE_TOOLS_PROCESSES_WORKER_PROCESS_H_

#include <functional>
#include <string>

#include "agent/device/cuda/cuda_driver.h"
#include "tools/processes/gpu_choice.h"

namespace reprise {

// The first argument of a program that is to be a worker. People do not use it.
inline constexpr char kWorkerProcessCommand[] = "worker-process";

// Runs the scenario's body as the arguments say, writes the trace to the file
// descriptor that they name, with a line for each event, and returns the exit
// code, which is 2 for wrong arguments. `argc` and `argv` are those of `main`,
// and argv[1] is kWorkerProcessCommand. `plant` switches on a planted defect;
// it is null in a program that has none. `find_gpus` finds the driver of the
// GPUs that the arguments name, if they name any.
int WorkerProcessMain(int argc, char** argv,
                      const std::function<bool(const std::string&)>& plant,
                      const GpuFinder& find_gpus = FindCudaDriver);

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_WORKER_PROCESS_H_

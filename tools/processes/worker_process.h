// One worker of a process run: what RunInProcesses starts.

#ifndef REPRISE_TOOLS_PROCESSES_WORKER_PROCESS_H_
#define REPRISE_TOOLS_PROCESSES_WORKER_PROCESS_H_

#include <functional>
#include <string>

namespace reprise {

// The first argument of a program that is to be a worker; not for people.
inline constexpr char kWorkerProcessCommand[] = "worker-process";

// `argc` and `argv` are those of `main`, where argv[1] is
// kWorkerProcessCommand. Runs the scenario's body as the arguments after it
// say, writes the trace, a line an event, to the file descriptor that they
// name, and returns the exit code: 2 for arguments that make no sense. `plant`
// switches on a planted defect, of a program that has some.
int WorkerProcessMain(int argc, char** argv,
                      const std::function<bool(const std::string&)>& plant);

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_WORKER_PROCESS_H_

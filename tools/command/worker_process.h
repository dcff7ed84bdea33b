// One worker of a process run: what RunInProcesses starts.

#ifndef REPRISE_TOOLS_COMMAND_WORKER_PROCESS_H_
#define REPRISE_TOOLS_COMMAND_WORKER_PROCESS_H_

namespace reprise {

// The first argument of a program that is to be a worker; not for people.
inline constexpr char kWorkerProcessCommand[] = "worker-process";

// Runs the scenario's body as the arguments after kWorkerProcessCommand say,
// writes the trace, a line an event, to the file descriptor that they name, and
// returns the exit code.
int WorkerProcessMain(int argc, char** argv);

}  // namespace reprise

#endif  // REPRISE_TOOLS_COMMAND_WORKER_PROCESS_H_

// The subcommands of `reprise`. Each function is given what the command line
// says, prints its result, and returns the exit code.

#ifndef REPRISE_TOOLS_COMMAND_SUBCOMMANDS_H_
#define REPRISE_TOOLS_COMMAND_SUBCOMMANDS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/command/command.h"
#include "tools/command/options.h"
#include "tools/command/report.h"
#include "tools/processes/worker_identity.h"

namespace reprise {

struct CommonFlags {
  bool json = false;
  std::string plant;
  const Planting* planting = nullptr;
};

struct RunCommand {
  RunFlags run;
  std::string on = "sim";
  std::string device;  // the GPUs for --on cuda; empty: all
  std::string trace_path;
  int64_t max_wall_seconds = 180;
  bool all = false;  // tell the whole story
};

struct ExploreCommand {
  RunFlags run;  // perhaps a sweep (sweep.h)
  std::string on = "sim";
  std::string device;              // as in `RunCommand`
  int64_t max_wall_seconds = 180;  // of each seed, on others than sim
  uint64_t seeds = 100;
  uint64_t first_seed = 1;
  int jobs = 1;
  bool keep_going = false;
  double seconds = 0;  // 0: no bound
  double shrink_seconds = 30;
  bool all = false;  // tell the whole story
  std::string out;
};

struct ReplayCommand {
  std::string path;
  ContextKind context = kDefaultContext;
  std::optional<RuntimeKind> runtime;  // unset: as the file says
  bool all = false;                    // tell the whole story
  std::string trace_path;
  IsolationFlags isolation;
  // When nothing was violated, search around the recording for so long and for
  // so many variants; 0: no limit, and with both 0 no search.
  double search_seconds = 0;
  int64_t variants = 0;
};

struct KeepCommand {
  std::string path;
  std::string directory = "tests/replays";
  std::string name;  // without ".replay"; empty: as `path`
};

struct ShrinkCommand {
  std::string path;
  std::string out;  // empty: beside it
  double shrink_seconds = 30;
};

struct VerifyCommand {
  RunFlags run;
  uint64_t seeds = 1;
};

struct WorkerCommand {
  IdentityFlags identity;
  std::string scenario = "echo";
  uint64_t seed = 1;
  std::vector<std::string> params;  // "k=v"
  std::string on = "uv";
  std::string device;  // empty: as the environment says
  std::string bind_address;
  std::string trace_path;
  int64_t max_wall_seconds = 180;
};

struct StoreCommand {
  std::string tcp;  // HOST:PORT
  uint64_t max_mib = 1024;
};

int DoList(const CommonFlags& common);
int DoRun(const CommonFlags& common, const RunCommand& command);
// Runs the explorations that the command means by one of the two below.
int DoSweep(const CommonFlags& common, const ExploreCommand& command);
// One exploration. With `report`, its JSON object is put there rather than
// printed.
int DoExplore(const CommonFlags& common, const ExploreCommand& command,
              Json* report);
int DoExploreInProcesses(const CommonFlags& common,
                         const ExploreCommand& command, Json* report);
int DoReplay(const CommonFlags& common, const ReplayCommand& command);
int DoKeep(const CommonFlags& common, const KeepCommand& command);
int DoShrink(const CommonFlags& common, const ShrinkCommand& command);
int DoVerify(const CommonFlags& common, const VerifyCommand& command);
int DoDoctor(const CommonFlags& common);
int DoWorker(const CommonFlags& common, const WorkerCommand& command);
// Serves until SIGINT or SIGTERM.
int DoStore(const CommonFlags& common, const StoreCommand& command);

}  // namespace reprise

#endif  // REPRISE_TOOLS_COMMAND_SUBCOMMANDS_H_

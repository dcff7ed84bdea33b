#include "tools/command/command.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "fault_injection/fault_kind.h"
#include "glog/logging.h"
#include "sim/explore/replay_file.h"
#include "tools/command/numbers.h"
#include "tools/command/report.h"
#include "tools/command/subcommands.h"
#include "tools/processes/worker_process.h"

namespace reprise {
namespace {

// There is no numbered release yet (docs/versions.md).
constexpr char kVersion[] = "0";

// So that no seed is beyond the largest one.
constexpr uint64_t kMaxSeeds = 1'000'000'000'000;

constexpr char kFooter[] =
    "Exit codes: 0 all held; 1 a rule was violated (replay: again); 2 usage "
    "or\n"
    "input error; 3 not deterministic; 4 the exploration was inconclusive; 5 "
    "the\n"
    "replay of another build's failure violated nothing, which proves "
    "nothing.\n";

// The flags that every subcommand takes.
void AddCommon(CLI::App& app, CommonFlags& common) {
  app.add_flag("--json", common.json,
               "print one JSON object on standard output");
  if (common.planting != nullptr) {
    app.add_option("--plant", common.plant,
                   "the planted defect to switch on; 'list' lists them");
  }
}

void AddTrace(CLI::App& app, std::string& path) {
  app.add_option("--trace", path,
                 "write every event to this file, a line each; - means "
                 "standard output");
}

void AddOn(CLI::App& app, std::string& on, std::string& device,
           int64_t& max_wall_seconds) {
  app.add_option("--on", on,
                 "sim; uv or shm: a process for each worker; cuda: the same "
                 "with tensors on this machine's GPUs")
      ->capture_default_str();
  app.add_option("--device", device,
                 "cuda: the GPUs to use, e.g. 0 or cuda:0,cuda:1; worker "
                 "wN takes them from the Nth on (else: all)");
  app.add_option("--max-wall-seconds", max_wall_seconds,
                 "uv, shm and cuda: kill a run that takes longer")
      ->capture_default_str()
      ->check(WholeNumber(1, 1'000'000));
}

void AddAll(CLI::App& app, bool& all) {
  app.add_flag("--all", all,
               "tell everything, and not the 40 lines that matter most");
}

void AddShrinkSeconds(CLI::App& app, double& seconds) {
  app.add_option("--shrink-seconds", seconds,
                 "the longest time to make a failure smaller")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 86400.0));
}

std::string FaultHelp() { return "Faults:\n" + DescribeFaultKinds(); }

CLI::App* AddRun(CLI::App& app, RunCommand& run) {
  CLI::App* const run_app = app.add_subcommand("run", "runs a scenario once");
  run_app->footer(FaultHelp());
  run.run.AddTo(*run_app, /*with_seed=*/true);
  AddOn(*run_app, run.on, run.device, run.max_wall_seconds);
  AddTrace(*run_app, run.trace_path);
  AddAll(*run_app, run.all);
  return run_app;
}

CLI::App* AddExplore(CLI::App& app, ExploreCommand& explore) {
  CLI::App* const explore_app = app.add_subcommand(
      "explore", "runs many seeds of a scenario, up to the first failure");
  explore_app->footer(FaultHelp());
  explore.run.AddTo(*explore_app, /*with_seed=*/false);
  AddOn(*explore_app, explore.on, explore.device, explore.max_wall_seconds);
  explore_app->add_option("--seeds", explore.seeds, "the number of seeds")
      ->capture_default_str()
      ->check(WholeNumber(1, kMaxSeeds));
  explore_app->add_option("--first-seed", explore.first_seed, "the first seed")
      ->capture_default_str()
      ->check(WholeNumber(0, UINT64_MAX - kMaxSeeds));
  explore_app
      ->add_option("--seconds", explore.seconds,
                   "stop after so much real time, without the shrinking, if "
                   "--seeds are not run before (0: no bound)")
      ->capture_default_str()
      ->check(NumberFrom(0, 1e9));
  explore_app->add_option("--jobs", explore.jobs, "processes at a time")
      ->capture_default_str()
      ->check(WholeNumber(1, 64));
  explore_app->add_flag("--keep-going", explore.keep_going,
                        "go on past the first failure; one replay file for "
                        "failures that look alike");
  AddShrinkSeconds(*explore_app, explore.shrink_seconds);
  AddAll(*explore_app, explore.all);
  explore_app->add_option("--out", explore.out,
                          "the directory for replay files (default: here, or a "
                          "test's undeclared outputs)");
  return explore_app;
}

CLI::App* AddReplay(CLI::App& app, ReplayCommand& replay) {
  CLI::App* const replay_app =
      app.add_subcommand("replay", "runs a recorded failure again");
  replay_app->add_option("file", replay.path, "the replay file")->required();
  AddTrace(*replay_app, replay.trace_path);
  replay_app
      ->add_option("--search", replay.search_seconds,
                   "if nothing is violated, look around the recording for so "
                   "many seconds: shifted and dropped decisions, other "
                   "schedules, other seeds")
      ->check(CLI::Range(0.0, 1'000'000.0));
  replay_app
      ->add_option("--variants", replay.variants,
                   "look at so many variants of the recording at most")
      ->check(CLI::Range(1, 1'000'000'000));
  AddContextFlag(*replay_app, replay.context);
  AddRuntimeFlag(
      *replay_app, [&replay](RuntimeKind kind) { replay.runtime = kind; },
      "sim or real, as of 'run' (default: as the file says)");
  AddAll(*replay_app, replay.all);
  replay.isolation.AddTo(*replay_app);
  return replay_app;
}

CLI::App* AddKeep(CLI::App& app, KeepCommand& keep) {
  CLI::App* const keep_app = app.add_subcommand(
      "keep", "makes the replay file of a mended defect a test");
  keep_app->add_option("file", keep.path, "the replay file")->required();
  keep_app->add_option("--to", keep.directory, "the directory of such files")
      ->capture_default_str();
  keep_app->add_option("--as", keep.name,
                       "its name there, without .replay (default: as it is)");
  return keep_app;
}

CLI::App* AddShrink(CLI::App& app, ShrinkCommand& shrink) {
  CLI::App* const shrink_app = app.add_subcommand(
      "shrink", "makes a recorded failure smaller, and says what is gone");
  shrink_app->add_option("file", shrink.path, "the replay file")->required();
  shrink_app->add_option("--out", shrink.out,
                         "the smaller file (default: NAME.small.replay beside "
                         "NAME.replay)");
  AddShrinkSeconds(*shrink_app, shrink.shrink_seconds);
  return shrink_app;
}

CLI::App* AddVerify(CLI::App& app, VerifyCommand& verify) {
  CLI::App* const verify_app = app.add_subcommand(
      "verify", "checks that a run is a function of its seed");
  verify_app->footer(FaultHelp());
  verify.run.AddTo(*verify_app, /*with_seed=*/true);
  verify_app
      ->add_option("--seeds", verify.seeds,
                   "the number of seeds, from --seed on")
      ->capture_default_str()
      ->check(WholeNumber(1, kMaxSeeds));
  return verify_app;
}

CLI::App* AddWorker(CLI::App& app, WorkerCommand& worker) {
  CLI::App* const worker_app = app.add_subcommand(
      "worker",
      "runs one worker of a run over several machines, a process on each");
  worker_app
      ->add_option("--scenario", worker.scenario,
                   "the scenario; see 'reprise list'")
      ->capture_default_str();
  worker_app->add_option("--store", worker.identity.store_url,
                         "the URL of the store that all workers reach (else: "
                         "tcp://$MASTER_ADDR:$MASTER_PORT)");
  worker_app
      ->add_option("--rank", worker.identity.rank,
                   "0 .. N-1; 0 coordinates (else: $RANK, "
                   "$SLURM_PROCID)")
      ->check(WholeNumber(0, INT32_MAX));
  worker_app->add_option("--name", worker.identity.name,
                         "w0, w1, ...; another way to give the rank");
  worker_app
      ->add_option("--world-size", worker.identity.world_size,
                   "the number of workers (else: $WORLD_SIZE, $SLURM_NTASKS, "
                   "the scenario's)")
      ->check(WholeNumber(1, INT32_MAX));
  worker_app->add_option("--run-id", worker.identity.run_id,
                         "the same for all workers of a run, and another for "
                         "each run over a store (else: torchrun's or Slurm's, "
                         "or 'default')");
  worker_app
      ->add_option("--on", worker.on,
                   "the transport: uv, shm, ibv; or cuda: all that work here")
      ->capture_default_str();
  worker_app->add_option("--device", worker.device,
                         "the GPU of this worker, e.g. 0 or cuda:0; cuda:0,"
                         "cuda:1 for several; cpu for none (else, for a "
                         "scenario that needs one: $LOCAL_RANK, "
                         "$SLURM_LOCALID, the first)");
  worker_app->add_option("--bind", worker.bind_address,
                         "this machine's address as the others reach it (else: "
                         "of $TP_SOCKET_IFNAME, or of the host's name)");
  worker_app->add_option("--seed", worker.seed, "the same for all workers")
      ->capture_default_str()
      ->check(WholeNumber());
  worker_app
      ->add_option("--param", worker.params,
                   "a parameter of the scenario, as name=value")
      ->take_all()
      ->allow_extra_args(false);
  worker_app->add_option("--trace", worker.trace_path,
                         "write every event to this file, a line each: w0 "
                         "those of all workers, the others their own; - means "
                         "standard output");
  worker_app
      ->add_option("--max-wall-seconds", worker.max_wall_seconds,
                   "give up a run that takes longer")
      ->capture_default_str()
      ->check(WholeNumber(1, 1'000'000));
  return worker_app;
}

CLI::App* AddStore(CLI::App& app, StoreCommand& store) {
  CLI::App* const store_app = app.add_subcommand(
      "store",
      "serves a tcp:// store for a group, until SIGINT or SIGTERM ends it");
  store_app->footer(
      "Its clients are ours and PyTorch's: 1.13, and 2.x since it validates "
      "its\n"
      "clients. All keys are in memory and end with it. There is no\n"
      "authentication: let only the group's network reach the port. Exit "
      "codes: 0\n"
      "ended by a signal; 2 it cannot listen there, or usage.\n");
  store_app
      ->add_option("--tcp", store.tcp,
                   "HOST:PORT to listen on, e.g. 10.0.0.7:29500; HOST 0.0.0.0 "
                   "is all of IPv4 and [::] all; PORT 0 is any, and the line "
                   "that is printed has it")
      ->required();
  store_app
      ->add_option("--max-mib", store.max_mib,
                   "the most that keys and values may take, and the most that "
                   "may be under way to and from all clients")
      ->capture_default_str()
      ->check(WholeNumber(1, 1'000'000));
  return store_app;
}

void StartLogging(int argc, char** argv) {
  FLAGS_logtostderr = true;
  // Logs are for users of an agent or of a store, and only the subcommands
  // `worker` and `store` run one for them. In the others, the story tells what
  // an agent would warn of.
  FLAGS_minloglevel = google::GLOG_FATAL;
  const std::string_view subcommand = argc > 1 ? argv[1] : "";
  if (subcommand == "worker" || subcommand == "store") {
    FLAGS_minloglevel = FLAGS_v > 0 ? google::GLOG_INFO : google::GLOG_WARNING;
  }
  google::InitGoogleLogging(argv[0]);
}

// `bazel run` starts programs in a directory of its own. Paths on the command
// line are relative to the user's.
void ChangeToTheUsersDirectory() {
  const char* const directory = std::getenv("BUILD_WORKING_DIRECTORY");
  if (directory != nullptr && chdir(directory) != 0) {
    PrintNotice("cannot change to the caller's directory");
  }
}

int ListPlants(const CommonFlags& common) {
  const std::vector<std::string> plants = common.planting->describe();
  if (common.json) {
    PrintJson(Json{{"plants", plants}});
  } else {
    for (const std::string& line : plants) PrintLine(line);
  }
  return kHeld;
}

int PrintVersion(const CommonFlags& common) {
#ifdef REPRISE_WITH_CUDA
  constexpr bool kWithCuda = true;
#else
  constexpr bool kWithCuda = false;
#endif
#ifdef __clang__
  const std::string compiler = __VERSION__;
#else
  const std::string compiler = "GCC " __VERSION__;
#endif
  if (common.json) {
    PrintJson(Json{{"version", kVersion},
                   {"build", BuildId()},
                   {"compiler", compiler},
                   {"cuda", kWithCuda},
                   {"planted", common.planting != nullptr}});
    return kHeld;
  }
  PrintLine(
      absl::StrCat("reprise ", kVersion, ", build ", BuildId(), ", ", compiler,
                   kWithCuda ? ", with CUDA" : ", without CUDA",
                   common.planting == nullptr ? "" : ", with planted defects"));
  return kHeld;
}

// Before the command line is understood.
bool WantsJson(int argc, char** argv) {
  return std::any_of(argv, argv + argc, [](const char* word) {
    return std::string_view(word) == "--json";
  });
}

absl::Status SwitchOn(const CommonFlags& common) {
  if (common.planting->plant(common.plant)) return absl::OkStatus();
  return absl::InvalidArgumentError("no planted defect '" + common.plant +
                                    "'; --plant list lists them");
}

int Command(int argc, char** argv, const Planting* planting) {
  if (argc > 1 && std::string_view(argv[1]) == kWorkerProcessCommand) {
    FLAGS_logtostderr = true;
    google::InitGoogleLogging(argv[0]);
    return WorkerProcessMain(argc, argv,
                             planting == nullptr ? nullptr : planting->plant);
  }
  StartLogging(argc, argv);
  ChangeToTheUsersDirectory();

  CommonFlags common;
  common.planting = planting;
  RunCommand run;
  ExploreCommand explore;
  ReplayCommand replay;
  KeepCommand keep;
  ShrinkCommand shrink;
  VerifyCommand verify;
  WorkerCommand worker;
  StoreCommand store;
  CLI::App app(
      "reprise: a deterministic simulator of the tensor-RPC agent that finds "
      "and replays its failures; it also runs scenarios in processes.");
  app.footer(kFooter);
  app.require_subcommand(0, 1);
  bool version = false;
  app.add_flag("--version", version,
               "the version, the build's id, the compiler, and whether it was "
               "built with CUDA");
  AddCommon(app, common);
  // Lets `--json` stand after the subcommand, too.
  app.fallthrough();
  const CLI::App* const list_app =
      app.add_subcommand("list", "lists the scenarios");
  const CLI::App* const run_app = AddRun(app, run);
  const CLI::App* const explore_app = AddExplore(app, explore);
  const CLI::App* const replay_app = AddReplay(app, replay);
  const CLI::App* const keep_app = AddKeep(app, keep);
  const CLI::App* const shrink_app = AddShrink(app, shrink);
  const CLI::App* const verify_app = AddVerify(app, verify);
  const CLI::App* const doctor_app = app.add_subcommand(
      "doctor",
      "says which transports, channels, GPUs and stores can work here");
  const CLI::App* const worker_app = AddWorker(app, worker);
  const CLI::App* const store_app = AddStore(app, store);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0 && WantsJson(argc, argv)) {
      return UsageError(absl::InvalidArgumentError(error.what()),
                        /*json=*/true);
    }
    return app.exit(error) == 0 ? kHeld : kUsage;
  }
  if (version) return PrintVersion(common);
  if (common.plant == "list") return ListPlants(common);
  if (!common.plant.empty()) {
    absl::Status status = SwitchOn(common);
    if (!status.ok()) return UsageError(status, common.json);
  }
  if (*list_app) return DoList(common);
  if (*run_app) return DoRun(common, run);
  if (*explore_app) return DoSweep(common, explore);
  if (*replay_app) return DoReplay(common, replay);
  if (*keep_app) return DoKeep(common, keep);
  if (*shrink_app) return DoShrink(common, shrink);
  if (*verify_app) return DoVerify(common, verify);
  if (*doctor_app) return DoDoctor(common);
  if (*worker_app) return DoWorker(common, worker);
  if (*store_app) return DoStore(common, store);
  return UsageError(absl::InvalidArgumentError("no subcommand; see --help"),
                    common.json);
}

}  // namespace

int CommandMain(int argc, char** argv, const Planting* planting) {
  const int code = Command(argc, argv, planting);
  errno = 0;
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
  std::fprintf(stderr, "reprise: cannot write to standard output: %s\n",
               errno == 0 ? "some of it was lost" : std::strerror(errno));
  return code != 0 ? code : kUsage;
}

}  // namespace reprise

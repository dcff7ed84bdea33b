#include "tools/command/command.h"

#include <unistd.h>

#include <cstdlib>
#include <string_view>

#include "CLI/CLI.hpp"
#include "glog/logging.h"
#include "tools/command/report.h"
#include "tools/command/subcommands.h"
#include "tools/processes/worker_process.h"

namespace reprise {
namespace {

constexpr char kFooter[] =
    "Exit codes: 0 all held; 1 a rule was violated (replay: again); 2 usage "
    "or\n"
    "input error; 3 not deterministic; 4 the exploration proved too little.\n";

// The flags that every subcommand takes.
void AddCommon(CLI::App& app, CommonFlags& common) {
  app.add_flag("--json", common.json,
               "print one JSON object on standard output");
  if (common.planting != nullptr) {
    app.add_option("--plant", common.plant,
                   "the planted defect to switch on; 'list' lists them");
  }
}

void AddWorker(CLI::App& app, WorkerCommand& worker) {
  CLI::App* const worker_app = app.add_subcommand(
      "worker", "one worker of a run over several machines, a process on each");
  worker_app
      ->add_option("--scenario", worker.scenario,
                   "the scenario; see 'reprise list'")
      ->capture_default_str();
  worker_app->add_option("--store", worker.identity.store_url,
                         "the URL of the store that all workers reach (else: "
                         "tcp://$MASTER_ADDR:$MASTER_PORT)");
  worker_app->add_option("--rank", worker.identity.rank,
                         "0 .. N-1; 0 coordinates (else: $RANK, "
                         "$SLURM_PROCID)");
  worker_app->add_option("--name", worker.identity.name,
                         "w0, w1, ...; another way to give the rank");
  worker_app->add_option("--world-size", worker.identity.world_size,
                         "how many workers (else: $WORLD_SIZE, $SLURM_NTASKS, "
                         "the scenario's)");
  worker_app->add_option("--run-id", worker.identity.run_id,
                         "the same for all workers of a run, and another for "
                         "each run over a store (else: torchrun's or Slurm's, "
                         "or 'default')");
  worker_app->add_option("--on", worker.on, "the transport: uv, shm, ibv")
      ->capture_default_str();
  worker_app->add_option("--bind", worker.bind_address,
                         "this machine's address as the others reach it (else: "
                         "of $TP_SOCKET_IFNAME, or of the host's name)");
  worker_app->add_option("--seed", worker.seed, "the same for all workers")
      ->capture_default_str();
  worker_app
      ->add_option("--param", worker.params,
                   "a parameter of the scenario, as name=value")
      ->take_all()
      ->allow_extra_args(false);
  worker_app->add_option("--trace", worker.trace_path,
                         "write every event to this file, a line each: w0 "
                         "those of all workers, the others their own");
  worker_app
      ->add_option("--max-wall-seconds", worker.max_wall_seconds,
                   "give up a run that takes longer")
      ->capture_default_str()
      ->check(CLI::Range(1, 1'000'000));
}

int ListPlants(const Planting& planting) {
  for (const std::string& line : planting.describe()) PrintLine(line);
  return kHeld;
}

}  // namespace

int CommandMain(int argc, char** argv, const Planting* planting) {
  if (argc > 1 && std::string_view(argv[1]) == kWorkerProcessCommand) {
    FLAGS_logtostderr = true;
    google::InitGoogleLogging(argv[0]);
    return WorkerProcessMain(argc, argv,
                             planting == nullptr ? nullptr : planting->plant);
  }
  // What the agent warns of is part of the story; logs are for its users.
  FLAGS_logtostderr = true;
  FLAGS_minloglevel = google::GLOG_FATAL;
  if (argc > 1 && std::string_view(argv[1]) == "worker") {
    // The logs of a machine are for who runs it.
    FLAGS_minloglevel = FLAGS_v > 0 ? google::GLOG_INFO : google::GLOG_WARNING;
  }
  google::InitGoogleLogging(argv[0]);
  // `bazel run` starts programs elsewhere; paths are relative to the user.
  if (const char* directory = std::getenv("BUILD_WORKING_DIRECTORY")) {
    if (chdir(directory) != 0) {
      PrintNotice("cannot change to the caller's directory");
    }
  }

  CommonFlags common;
  common.planting = planting;
  RunCommand run;
  ExploreCommand explore;
  ReplayCommand replay;
  VerifyCommand verify;

  CLI::App app(
      "reprise: plays scenarios of the tensor-RPC agent, in a simulated "
      "world or in processes, and plays their failures again.");
  app.footer(kFooter);
  app.require_subcommand(0, 1);
  AddCommon(app, common);
  // `--json` may stand behind the subcommand too.
  app.fallthrough();

  CLI::App* list = app.add_subcommand("list", "the scenarios that there are");

  CLI::App* run_app = app.add_subcommand("run", "one run of a scenario");
  run.run.AddTo(*run_app, /*with_seed=*/true);
  run_app
      ->add_option("--on", run.on,
                   "sim, or uv or shm: a process for each worker")
      ->capture_default_str();
  run_app->add_option("--trace", run.trace_path,
                      "write every event to this file, a line each");
  run_app
      ->add_option("--max-wall-seconds", run.max_wall_seconds,
                   "uv and shm: kill a run that takes longer")
      ->capture_default_str()
      ->check(CLI::Range(1, 1'000'000));

  CLI::App* explore_app = app.add_subcommand(
      "explore", "many seeds of a scenario, up to the first failure");
  explore.run.AddTo(*explore_app, /*with_seed=*/false);
  explore_app->add_option("--seeds", explore.seeds, "how many")
      ->capture_default_str();
  explore_app->add_option("--first-seed", explore.first_seed, "the first")
      ->capture_default_str();
  explore_app->add_option("--jobs", explore.jobs, "OS threads, a world each")
      ->capture_default_str()
      ->check(CLI::Range(1, 64));
  explore_app->add_flag("--keep-going", explore.keep_going,
                        "go on past the first failure");
  explore_app->add_option("--out", explore.out,
                          "the directory for replay files (default: here, or a "
                          "test's undeclared outputs)");

  CLI::App* replay_app =
      app.add_subcommand("replay", "a recorded failure, once more");
  replay_app->add_option("file", replay.path, "the replay file")->required();
  replay_app->add_option("--trace", replay.trace_path,
                         "write every event to this file, a line each");

  CLI::App* verify_app =
      app.add_subcommand("verify", "whether a run is a function of its seed");
  verify.run.AddTo(*verify_app, /*with_seed=*/true);
  verify_app->add_option("--seeds", verify.seeds, "how many, from --seed")
      ->capture_default_str();

  CLI::App* doctor = app.add_subcommand(
      "doctor", "which transports, channels and stores can work here");

  WorkerCommand worker;
  AddWorker(app, worker);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kHeld : kUsage;
  }
  if (!common.plant.empty()) {
    if (common.plant == "list") return ListPlants(*planting);
    if (!planting->plant(common.plant)) {
      return UsageError(
          absl::InvalidArgumentError("no planted defect '" + common.plant +
                                     "'; --plant list lists them"),
          common.json);
    }
  }
  if (*list) return DoList(common);
  if (*run_app) return DoRun(common, run);
  if (*explore_app) return DoExplore(common, explore);
  if (*replay_app) return DoReplay(common, replay);
  if (*verify_app) return DoVerify(common, verify);
  if (*doctor) return DoDoctor(common);
  if (app.got_subcommand("worker")) return DoWorker(common, worker);
  PrintNotice("no subcommand; see --help");
  return kUsage;
}

}  // namespace reprise

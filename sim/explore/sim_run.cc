#include "sim/explore/sim_run.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <iomanip>
#include <map>
#include <memory>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/device/devices.h"
#include "agent/transport/cuda/environment.h"
#include "agent/transport/cuda/xth_offers.h"
#include "fault_injection/fault.h"
#include "fault_injection/injector.h"
#include "sim/device/sim_gpus.h"
#include "sim/device/sim_shared_memory.h"
#include "sim/explore/result_log.h"
#include "sim/network/topology.h"
#include "sim/scenario/scratch_directory.h"
#include "sim/store/sim_store.h"
#include "sim/trace/invariants.h"
#include "sim/trace/trace_observer.h"
#include "sim/world/arena.h"
#include "sim/world/race_annotations.h"
#include "sim/world/sim_runtime.h"
#include "sim/world/world.h"

namespace reprise {
namespace {

NetworkOptions ToNetworkOptions(const SimRunOptions& options) {
  NetworkOptions network = options.network;
  if (options.scenario->bytes_per_second > 0) {
    network.bytes_per_second = options.scenario->bytes_per_second;
  }
  if (network.hosts.empty()) network.hosts = options.scenario->hosts;
  // `RunSimulated` has checked it.
  ApplyTopology(options.scenario->topology,
                NumWorkers(*options.scenario, options.params), network)
      .IgnoreError();
  return network;
}

SimGpuOptions ToGpuOptions(const Scenario& scenario) {
  SimGpuOptions gpus;
  gpus.gpus_per_host = scenario.gpus_per_host;
  return gpus;
}

int NumMembers(const SimRunOptions& options) {
  return NumWorkers(*options.scenario, options.params) -
         options.scenario->clients;
}

int HostOf(const Scenario& scenario, int32_t rank) {
  const auto index = static_cast<size_t>(rank);
  return index < scenario.hosts.size() ? scenario.hosts[index] : 0;
}

// As the channels for GPUs say it to each other: no two processes of a host
// have the same.
ProcessIdentity IdentityOf(const Node& node, int host) {
  constexpr int64_t kMaxRestarts = 1000;
  return {.boot_id = absl::StrCat("simulated-host-", host),
          .pid_namespace = "1_1",
          .ipc_namespace = "1_1",
          .pid = (node.rank + 1) * kMaxRestarts + node.incarnation};
}

// Everything of one run except its heap.
class SimRun {
 public:
  SimRun(const SimRunOptions& options, std::vector<Fault> faults)
      : options_(options),
        world_(std::make_unique<World>(ToWorldOptions(options))),
        network_(*world_, ToNetworkOptions(options)),
        store_(*world_),
        gpus_(*world_, ToGpuOptions(*options.scenario)),
        invariants_(NumMembers(options),
                    [this](std::string_view rule, std::string_view detail) {
                      world_->Fail(rule, detail);
                    }),
        injector_(*world_, network_, store_, gpus_, std::move(faults),
                  {[this](int32_t rank) { return NodeOf(rank); },
                   [this](int32_t rank) { StartWorker(rank); },
                   NumWorkers(*options.scenario, options.params)}) {
    if (options.recorder != nullptr) options.recorder->Attach(*world_);
    world_->trace().AddListener(
        [this](const Event& event) { invariants_.OnEvent(event); });
    const int workers = NumWorkers(*options.scenario, options.params);
    for (int rank = 0; rank < workers; ++rank) StartWorker(rank);
  }

  void Run() {
    outcome_ = world_->Run();
    if (outcome_ == Outcome::kFinished) CheckTheEnd();
    if (options_.recorder != nullptr) options_.recorder->Detach();
  }

  // Allocates in the heap of its caller.
  void CopyTo(RunResult& result) const;

  // Removes the workers' files, or returns where they are.
  std::string LeaveFiles(bool keep) {
    if (!files_) return "";
    if (keep) {
      // A copy, as the path itself is in the arena.
      const std::string path = std::move(*files_).Keep();
      return std::string(path.data(), path.size());
    }
    files_->Remove();
    return "";
  }

  // Destroys the run if it ended well, and leaves it to the arena if not.
  static bool Dispose(std::unique_ptr<SimRun> run) {
    if (run->outcome_ == Outcome::kFinished && !run->crashed_ &&
        run->world_->clean()) {
      run->workers_.clear();
      return true;
    }
    run->world_->scheduler().ReturnStacks();
    (void)run.release();
    return false;
  }

 private:
  class SimWorker;

  static WorldOptions ToWorldOptions(const SimRunOptions& options) {
    WorldOptions world;
    world.seed = options.seed;
    world.schedule = options.schedule;
    world.recording = options.recording;
    world.keep_trace = options.keep_trace;
    world.max_time_ns = absl::ToInt64Nanoseconds(options.scenario->max_time);
    if (options.max_time_ns > 0) {
      world.max_time_ns = std::min(world.max_time_ns, options.max_time_ns);
    }
    if (options.max_points > 0) {
      world.max_points = std::min(world.max_points, options.max_points);
    }
    world.stack_bytes = options.stack_bytes;
    return world;
  }

  Node* NodeOf(int32_t rank) {
    auto it = workers_.find(rank);
    return it == workers_.end() || !IsUp(*it->second) ? nullptr
                                                      : &NodeIn(*it->second);
  }
  static Node& NodeIn(SimWorker& worker);
  // Whether a fault can hit it.
  static bool IsUp(SimWorker& worker);
  void StartWorker(int32_t rank);
  std::shared_ptr<GpuDriver> ConnectGpus(Node& node) {
    const Scenario& scenario = *options_.scenario;
    if (scenario.gpus_per_host == 0) return nullptr;
    return gpus_.Connect(node, HostOf(scenario, node.rank));
  }
  void CheckTheEnd();
  absl::StatusOr<std::string> DirectoryOf(int32_t rank);

  const SimRunOptions& options_;
  std::unique_ptr<World> world_;
  Network network_;
  SimStoreServer store_;
  SimGpus gpus_;
  SimSharedMemories shared_memories_;
  Invariants invariants_;
  Injector injector_;
  std::map<int32_t, std::unique_ptr<SimWorker>> workers_;
  std::set<std::string> probes_;
  std::optional<ScratchDirectory> files_;
  Outcome outcome_ = Outcome::kFinished;
  bool crashed_ = false;
  int64_t last_worker_ended_ns_ = 0;
};

// One incarnation of one worker.
class SimRun::SimWorker : public Worker {
 public:
  SimWorker(SimRun& run, Node& node, AgentOptions options)
      : Worker(std::move(options), node.incarnation, run.options_.seed,
               run.options_.params),
        run_(run),
        node_(node),
        runtime_(*run.world_, node),
        gpu_driver_(run.ConnectGpus(node)),
        transports_(run.network_, node, GpuChannels()),
        store_(run.store_.Connect(node)),
        observer_(
            [this](const EventDetails& details) {
              run_.world_->Record(&node_, details);
            },
            &World::ToNanoseconds,
            /*with_elements=*/gpu_driver_ == nullptr) {
    if (gpu_driver_ == nullptr) return;
    devices_ = std::make_unique<Devices>(runtime_, gpu_driver_.get());
  }

  Environment environment() override {
    return {&runtime_, store_, &transports_, &observer_, devices_.get()};
  }
  std::string scratch_directory() override {
    absl::StatusOr<std::string> path = run_.DirectoryOf(node_.rank);
    CheckOk(path.status(), "scratch-directory");
    return path.ok() ? *std::move(path) : "";
  }
  void Note(std::string_view text) override {
    run_.world_->Record(&node_, {.kind = EventKind::kNote, .text = text});
  }
  bool Check(bool holds, std::string_view rule,
             std::string_view detail) override {
    if (holds) return true;
    const InSimulator in;
    const std::string whole = absl::StrCat(name(), ": ", std::string(rule),
                                           ": ", std::string(detail));
    run_.world_->Record(&node_,
                        {.kind = EventKind::kCheckFailed, .text = whole});
    run_.world_->Fail(rule, absl::StrCat(name(), ": ", std::string(detail)));
    return false;
  }
  void Reached(std::string_view probe) override {
    const InSimulator in;
    run_.world_->Record(&node_, {.kind = EventKind::kProbe, .text = probe});
    run_.probes_.insert(std::string(probe));
  }

  // What the body does last. To be called on a thread of the node's, since it
  // waits for the GPUs.
  void End() { devices_ = nullptr; }
  void HasEnded() { has_ended_ = true; }
  bool has_ended() const { return has_ended_; }

  Node& node() { return node_; }

 private:
  std::optional<GpuChannelEnvironment> GpuChannels() {
    if (gpu_driver_ == nullptr) return std::nullopt;
    const int host = HostOf(*run_.options_.scenario, node_.rank);
    return GpuChannelEnvironment{
        .driver = gpu_driver_.get(),
        .runtime = &runtime_,
        .shared_memory = &run_.shared_memories_.Connect(node_, host),
        .process = IdentityOf(node_, host),
        .xth_offers = std::make_shared<XthOffers>(runtime_)};
  }

  SimRun& run_;
  Node& node_;
  SimRuntime runtime_;
  const std::shared_ptr<GpuDriver> gpu_driver_;  // null: no GPUs
  SimTransports transports_;
  std::shared_ptr<Store> store_;
  TraceObserver observer_;
  std::unique_ptr<Devices> devices_;  // null: no GPUs
  bool has_ended_ = false;
};

Node& SimRun::NodeIn(SimWorker& worker) { return worker.node(); }
bool SimRun::IsUp(SimWorker& worker) {
  return worker.node().alive && !worker.has_ended();
}

void SimRun::StartWorker(int32_t rank) {
  std::unique_ptr<SimWorker>& slot = workers_[rank];
  const int incarnation = slot == nullptr ? 0 : slot->incarnation() + 1;
  if (slot != nullptr) {
    crashed_ = true;
    // It is never destroyed, as the crashed agent refers to it.
    [[maybe_unused]] SimWorker* abandoned = slot.release();
  }
  AgentOptions options;
  options.name = absl::StrCat("w", rank);
  options.id = rank;
  options.world_size = NumMembers(options_);
  Node& node = world_->AddNode(rank, options.name, incarnation);
  slot = std::make_unique<SimWorker>(*this, node, std::move(options));
  SimWorker* const worker = slot.get();
  if (incarnation != 0) {
    network_.NodeIsUp(node);
    world_->Record(&node,
                   {.kind = EventKind::kRestart, .incarnation = incarnation});
  }
  world_->scheduler().Start(node, "main", [this, worker, &node] {
    world_->Record(&node, {.kind = EventKind::kWorkerStarted,
                           .incarnation = node.incarnation});
    options_.scenario->body(*worker);
    worker->End();
    const InSimulator in;
    world_->Record(&node, {.kind = EventKind::kWorkerEnded,
                           .incarnation = node.incarnation});
    last_worker_ended_ns_ = world_->now_ns();
    worker->HasEnded();
  });
}

absl::StatusOr<std::string> SimRun::DirectoryOf(int32_t rank) {
  if (!files_) {
    absl::StatusOr<ScratchDirectory> made = ScratchDirectory::Make();
    if (!made.ok()) return made.status();
    files_.emplace(*std::move(made));
  }
  return files_->MakeWithin(absl::StrCat("w", rank));
}

void SimRun::CheckTheEnd() {
  for (const auto& [rank, worker] : workers_) {
    if (!worker->node().alive) crashed_ = true;
  }
  invariants_.Finish();
  const int64_t settle_ns =
      absl::ToInt64Nanoseconds(options_.scenario->settle_time);
  const int64_t settled_ns = last_worker_ended_ns_ - injector_.last_effect_ns();
  if (settled_ns > settle_ns) {
    world_->Fail("settle", absl::StrCat("the last worker ended ",
                                        FormatNanoseconds(settled_ns),
                                        " after the last fault; the bound is ",
                                        FormatNanoseconds(settle_ns)));
  }
  if (!crashed_ && network_.num_open_endpoints() != 0) {
    world_->Fail("leak", absl::StrCat(network_.num_open_endpoints(),
                                      " ends of connections are still open"));
  }
  if (!crashed_ && gpus_.num_allocations() != 0) {
    world_->Fail("leak", absl::StrCat(gpus_.num_allocations(),
                                      " allocations of GPUs are left"));
  }
}

void SimRun::CopyTo(RunResult& result) const {
  result.rule = world_->failed_rule();
  result.detail = world_->failed_detail();
  if (result.rule == "deadlock") result.waiting = world_->DescribeFibers();
  if (outcome_ == Outcome::kDeadlock || outcome_ == Outcome::kTimeLimit) {
    result.waiting = world_->DescribeFibers();
  }
  result.hash = world_->trace().hash();
  result.num_events = world_->trace().num_events();
  result.num_decisions = world_->decisions().num_made();
  result.num_points = world_->scheduler().num_points();
  result.sim_seconds = static_cast<double>(world_->now_ns()) * 1e-9;
  result.injections = injector_.injections();
  result.never_struck = injector_.never_struck();
  result.probes = probes_;
  result.events = world_->trace().events();
  result.decisions = options_.recording == nullptr
                         ? world_->decisions().kept()
                         : world_->decisions().Followed();
  result.first_mismatch = world_->decisions().FirstMismatch();
  if (!options_.keep_trace) return;
  for (const auto& fiber : world_->scheduler().fibers()) {
    result.threads.push_back(fiber->label);
  }
  result.places = world_->decisions().places();
}

}  // namespace

// For what is found when there is no world any more. It is a function of its
// own, and not in the unnamed namespace, for breakpoints.
[[gnu::noinline]] void FailAfterTheEnd(std::string_view rule,
                                       std::string detail, RunResult& result) {
  result.rule = std::string(rule);
  result.detail = std::move(detail);
}

namespace {

// What the C++ library makes for the process at its first use, behind no guard
// that could be seen (static_guard.h), must not be made in an arena.
void MakeStatics() {
  static const bool once = [] {
    std::stringstream stream;
    stream << 1 << ' ' << 1.5 << ' ' << true << ' ' << &stream << ' ';
    stream << std::put_time(std::gmtime(std::make_unique<time_t>(0).get()),
                            "%c");
    int number = 0;
    double fraction = 0;
    stream >> number >> fraction;
    return true;
  }();
  static_cast<void>(once);
}

RunResult RunOnce(const SimRunOptions& options,
                  const std::vector<Fault>& faults, bool in_arena) {
  RunResult result;
  const auto start = std::chrono::steady_clock::now();
  if (in_arena) {
    ArenaScope arena(options.scatter);
    auto run = std::make_unique<SimRun>(options, faults);
    run->Run();
    {
      ArenaPause outlives_the_arena;
      run->CopyTo(result);
      result.scratch_directory =
          run->LeaveFiles(options.keep_scratch && !result.held());
    }
    const bool destroyed = SimRun::Dispose(std::move(run));
    const int64_t left = arena.live_allocations();
    ArenaPause outlives_the_arena;
    if (destroyed && result.held() && left != 0) {
      FailAfterTheEnd(
          "leak",
          absl::StrCat(left, " allocations are left when all has ended"),
          result);
    }
  } else {
    auto run = std::make_unique<SimRun>(options, faults);
    run->Run();
    run->CopyTo(result);
    result.scratch_directory =
        run->LeaveFiles(options.keep_scratch && !result.held());
    SimRun::Dispose(std::move(run));
  }
  result.wall_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start)
          .count();
  return result;
}

}  // namespace

absl::StatusOr<RunResult> RunSimulated(const SimRunOptions& options) {
  if (kHasTsan && options.schedule.context == ContextKind::kFibers) {
    return absl::FailedPreconditionError(
        "this program was built with ThreadSanitizer, which cannot follow "
        "fibers: use --context threads");
  }
  const Scenario& scenario = *options.scenario;
  if (absl::Status status = CheckParams(scenario, options.params);
      !status.ok()) {
    return status;
  }
  std::vector<std::string> lines;
  if (options.faults) {
    lines = *options.faults;
  } else if (scenario.faults) {
    lines = scenario.faults(Draws(options.seed, "faults"), options.params);
  }
  absl::StatusOr<std::vector<Fault>> faults =
      ParseFaults(lines, NumWorkers(scenario, options.params));
  if (!faults.ok()) return faults.status();
  NetworkOptions ignored;
  if (absl::Status status = ApplyTopology(
          scenario.topology, NumWorkers(scenario, options.params), ignored);
      !status.ok()) {
    return status;
  }
  if (options.recorder != nullptr) options.recorder->NotePlan(lines);
  if (kHasArena) MakeStatics();
  RunResult result = RunOnce(options, *faults, kHasArena);
  result.faults = std::move(lines);
  return result;
}

}  // namespace reprise

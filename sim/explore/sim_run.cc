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
#include "fault_injection/fault.h"
#include "fault_injection/injector.h"
#include "sim/device/sim_cpu_allocator.h"
#include "sim/explore/result_log.h"
#include "sim/explore/sim_worker.h"
#include "sim/network/topology.h"
#include "sim/trace/invariants.h"
#include "sim/world/arena.h"
#include "sim/world/race_annotations.h"
#include "sim/world/world.h"

namespace reprise {
namespace {

// Everything of one run except its heap.
class SimRun {
 public:
  SimRun(const SimRunOptions& options, std::vector<Fault> faults)
      : options_(options),
        cluster_(options),
        world_(*cluster_.world),
        limits_tensor_memory_(std::any_of(faults.begin(), faults.end(),
                                          [](const Fault& fault) {
                                            return fault.kind ==
                                                   FaultKind::kNoTensorMemory;
                                          })),
        invariants_(
            cluster_.num_members(),
            [this](std::string_view rule, std::string_view detail) {
              world_.Fail(rule, detail);
            },
            options.scenario->foreign_code),
        injector_(world_, cluster_.network, cluster_.store, cluster_.disks,
                  cluster_.gpus, std::move(faults),
                  {[this](int32_t rank) { return NodeOf(rank); },
                   [this](int32_t rank) { StartWorker(rank); },
                   NumWorkers(*options.scenario, options.params)}) {
    if (options.recorder != nullptr) options.recorder->Attach(world_);
    world_.trace().AddListener([this](const Event& event) {
      if (event.kind == EventKind::kProbe) cluster_.probes.insert(event.text);
      invariants_.OnEvent(event);
    });
    const int workers = NumWorkers(*options.scenario, options.params);
    for (int rank = 0; rank < workers; ++rank) StartWorker(rank);
  }

  void Run() {
    outcome_ = world_.Run();
    if (outcome_ == Outcome::kFinished) CheckTheEnd();
    if (options_.recorder != nullptr) options_.recorder->Detach();
  }

  // Allocates in the heap of its caller.
  void CopyTo(RunResult& result) const;

  std::string LeaveFiles(bool keep) { return cluster_.LeaveFiles(keep); }

  // Destroys the run if it ended well, and leaves it to the arena if not.
  static bool Dispose(std::unique_ptr<SimRun> run) {
    if (run->outcome_ == Outcome::kFinished && !run->crashed_ &&
        run->world_.clean()) {
      run->workers_.clear();
      return true;
    }
    run->world_.scheduler().ReturnStacks();
    (void)run.release();
    return false;
  }

 private:
  Node* NodeOf(int32_t rank) {
    auto it = workers_.find(rank);
    return it == workers_.end() || !it->second->is_up() ? nullptr
                                                        : &it->second->node();
  }
  void StartWorker(int32_t rank);
  void CheckTheEnd();

  const SimRunOptions& options_;
  SimCluster cluster_;
  World& world_;
  const bool limits_tensor_memory_;
  Invariants invariants_;
  Injector injector_;
  std::map<int32_t, std::unique_ptr<SimWorker>> workers_;
  Outcome outcome_ = Outcome::kFinished;
  bool crashed_ = false;
  int64_t last_worker_ended_ns_ = 0;
};

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
  options.world_size = cluster_.num_members();
  Node& node = world_.AddNode(rank, options.name, incarnation);
  if (limits_tensor_memory_) {
    options.allocator = std::make_shared<SimCpuAllocator>(node);
  }
  slot = std::make_unique<SimWorker>(cluster_, node, std::move(options));
  SimWorker* const worker = slot.get();
  if (incarnation != 0) {
    cluster_.network.NodeIsUp(node);
    world_.Record(&node,
                  {.kind = EventKind::kRestart, .incarnation = incarnation});
  }
  world_.scheduler().Start(node, "main", [this, worker, &node] {
    world_.Record(&node, {.kind = EventKind::kWorkerStarted,
                          .incarnation = node.incarnation});
    options_.scenario->body(*worker);
    worker->End();
    const InSimulator in;
    world_.Record(&node, {.kind = EventKind::kWorkerEnded,
                          .incarnation = node.incarnation});
    last_worker_ended_ns_ = world_.now_ns();
    worker->HasEnded();
  });
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
    world_.Fail("settle", absl::StrCat("the last worker ended ",
                                       FormatNanoseconds(settled_ns),
                                       " after the last fault; the bound is ",
                                       FormatNanoseconds(settle_ns)));
  }
  if (!crashed_ && cluster_.network.num_open_endpoints() != 0) {
    world_.Fail("leak", absl::StrCat(cluster_.network.num_open_endpoints(),
                                     " ends of connections are still open"));
  }
  if (!crashed_ && cluster_.gpus.num_allocations() != 0) {
    world_.Fail("leak", absl::StrCat(cluster_.gpus.num_allocations(),
                                     " allocations of GPUs are left"));
  }
}

void SimRun::CopyTo(RunResult& result) const {
  result.rule = world_.failed_rule();
  result.detail = world_.failed_detail();
  if (result.rule == "deadlock") result.waiting = world_.DescribeFibers();
  if (outcome_ == Outcome::kDeadlock || outcome_ == Outcome::kTimeLimit) {
    result.waiting = world_.DescribeFibers();
  }
  result.hash = world_.trace().hash();
  result.num_events = world_.trace().num_events();
  result.num_decisions = world_.decisions().num_made();
  result.num_points = world_.scheduler().num_points();
  result.sim_seconds = static_cast<double>(world_.now_ns()) * 1e-9;
  result.injections = injector_.injections();
  result.never_struck = injector_.never_struck();
  result.probes = cluster_.probes;
  result.events = world_.trace().events();
  result.decisions = options_.recording == nullptr
                         ? world_.decisions().kept()
                         : world_.decisions().Followed();
  result.first_mismatch = world_.decisions().FirstMismatch();
  if (!options_.keep_trace) return;
  for (const auto& fiber : world_.scheduler().fibers()) {
    result.threads.push_back(fiber->label);
  }
  result.places = world_.decisions().places();
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
    ArenaScope arena(options.scatter, options.scenario->foreign_code);
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
    if (destroyed && result.held() && left != 0 &&
        !options.scenario->foreign_code) {
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

ContextKind ContextOf(const SimRunOptions& options) {
  return options.scenario->foreign_code || options.runtime == RuntimeKind::kReal
             ? ContextKind::kThreads
             : options.schedule.context;
}

std::vector<std::string> TopologyOf(const SimRunOptions& options) {
  if (options.topology) return *options.topology;
  if (!options.scenario->draw_topology) return {};
  return options.scenario->draw_topology(Draws(options.seed, "topology"),
                                         options.params);
}

absl::StatusOr<RunResult> RunSimulated(const SimRunOptions& given) {
  SimRunOptions options = given;
  options.schedule.context = ContextOf(options);
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
  options.topology = TopologyOf(options);
  options.network.checks_peers = std::any_of(
      faults->begin(), faults->end(),
      [](const Fault& fault) { return fault.kind == FaultKind::kCorrupt; });
  const int workers = NumWorkers(scenario, options.params);
  NetworkOptions ignored;
  absl::Status status = ApplyTopology(scenario.topology, workers, ignored);
  if (status.ok()) status = ApplyTopology(*options.topology, workers, ignored);
  if (!status.ok()) return status;
  if (options.recorder != nullptr) options.recorder->NotePlan(lines);
  if (kHasArena) MakeStatics();
  RunResult result = RunOnce(options, *faults, kHasArena);
  result.faults = std::move(lines);
  result.topology = *std::move(options.topology);
  return result;
}

}  // namespace reprise

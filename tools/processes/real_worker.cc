#include "tools/processes/real_worker.h"

#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/disk/folder_disk.h"
#include "agent/runtime/runtime.h"
#include "agent/transport/transports.h"
#include "tools/processes/worker_arguments.h"

namespace reprise {
namespace {

// What `RealRuntime().Now()` was at the start of the run, or a little less:
// then a deadline in the trace is never later than the one that was kept.
absl::Time StartOfRun(int64_t start_ns) {
  absl::Time best;
  int64_t best_error_ns = INT64_MAX;
  for (int i = 0; i < 16; ++i) {
    const int64_t before_ns = MonotonicNanoseconds();
    const absl::Time now = RealRuntime().Now();
    const int64_t error_ns = MonotonicNanoseconds() - before_ns;
    if (error_ns >= best_error_ns) continue;
    best_error_ns = error_ns;
    best = now - absl::Nanoseconds(before_ns - start_ns);
  }
  return best;
}

}  // namespace

void RealTrace::Record(const EventDetails& details) {
  // The time is read with the lock held, so that times ascend from event to
  // event.
  std::lock_guard<std::mutex> lock(mutex_);
  sink_(MakeEvent(MonotonicNanoseconds() - start_ns_, node_, details));
}

RealWorker::RealWorker(const Scenario& scenario, AgentOptions options,
                       int incarnation, uint64_t seed,
                       const ScenarioParams& params,
                       std::shared_ptr<Store> store, Devices* devices,
                       std::string files, RealTrace& trace)
    : Worker(std::move(options), incarnation, seed, params),
      scenario_(scenario),
      store_(std::move(store)),
      devices_(devices),
      files_(std::move(files)),
      disk_(MakeFolderDisk(files_ + "/disk")),
      trace_(trace),
      observer_([this](const EventDetails& details) { trace_.Record(details); },
                [start = StartOfRun(trace.start_ns())](absl::Time deadline) {
                  // This saturates, so an infinite deadline is the maximum.
                  return absl::ToInt64Nanoseconds(deadline - start);
                },
                /*with_elements=*/scenario.gpus_per_host == 0) {}

void RealWorker::Run() {
  trace_.Record(
      {.kind = EventKind::kWorkerStarted, .incarnation = incarnation()});
  scenario_.body(*this);
  trace_.Record(
      {.kind = EventKind::kWorkerEnded, .incarnation = incarnation()});
}

Environment RealWorker::environment() {
  return {&RealRuntime(), store_, &RealTransports(), &observer_, devices_};
}

std::string RealWorker::scratch_directory() {
  std::error_code error;
  std::filesystem::create_directories(files_, error);
  if (!error) return files_;
  Check(false, "scratch-directory",
        absl::StrCat("cannot make ", files_, ": ", error.message()));
  return "";
}

void RealWorker::Note(std::string_view text) {
  trace_.Record({.kind = EventKind::kNote, .text = text});
}

bool RealWorker::Check(bool holds, std::string_view rule,
                       std::string_view detail) {
  if (holds) return true;
  const std::string whole =
      absl::StrCat(name(), ": ", std::string(rule), ": ", std::string(detail));
  trace_.Record({.kind = EventKind::kCheckFailed, .text = whole});
  return false;
}

void RealWorker::Reached(std::string_view probe) {
  trace_.Record({.kind = EventKind::kProbe, .text = probe});
}

AgentOptions RealWorkerOptions(int rank, int world_size,
                               std::vector<std::string> transports,
                               std::string_view bind_address) {
  AgentOptions options;
  options.name = absl::StrCat("w", rank);
  options.id = rank;
  options.world_size = world_size;
  options.transport.transports = std::move(transports);
  options.transport.bind_address = std::string(bind_address);
  return options;
}

}  // namespace reprise

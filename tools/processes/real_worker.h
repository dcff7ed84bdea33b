// A worker of a scenario over real transports, and its trace.

#ifndef REPRISE_TOOLS_PROCESSES_REAL_WORKER_H_
#define REPRISE_TOOLS_PROCESSES_REAL_WORKER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "agent/agent.h"
#include "agent/device/devices.h"
#include "agent/disk/disk.h"
#include "agent/options.h"
#include "agent/store/store.h"
#include "sim/scenario/scenario.h"
#include "sim/trace/trace.h"
#include "sim/trace/trace_observer.h"

namespace reprise {

// Gives events their times, in order. Thread-safe.
class RealTrace {
 public:
  // Called with one event at a time, in the order of their times, with a lock
  // held.
  using Sink = std::function<void(Event event)>;

  // Times count from `start_ns`, of MonotonicNanoseconds.
  RealTrace(int32_t node, int64_t start_ns, Sink sink)
      : node_(node), start_ns_(start_ns), sink_(std::move(sink)) {}

  int64_t start_ns() const { return start_ns_; }
  void Record(const EventDetails& details);

 private:
  const int32_t node_;
  const int64_t start_ns_;
  std::mutex mutex_;
  const Sink sink_;
};

// The Worker that the scenario's body gets. The threads of the body use it.
class RealWorker : public Worker {
 public:
  // `scenario`, `params`, `devices` and `trace` must outlive the worker.
  // `devices` may be null: then tensors are on CPUs only. `files` is the path
  // of the worker's scratch directory, which need not exist.
  RealWorker(const Scenario& scenario, AgentOptions options, int incarnation,
             uint64_t seed, const ScenarioParams& params,
             std::shared_ptr<Store> store, Devices* devices, std::string files,
             RealTrace& trace);

  // Runs the body and records its start and its end.
  void Run();

  Environment environment() override;
  std::string scratch_directory() override;
  Disk& disk() override { return *disk_; }
  void Note(std::string_view text) override;
  bool Check(bool holds, std::string_view rule,
             std::string_view detail) override;
  void Reached(std::string_view probe) override;

 private:
  const Scenario& scenario_;
  const std::shared_ptr<Store> store_;
  Devices* const devices_;
  const std::string files_;
  const std::unique_ptr<Disk> disk_;
  RealTrace& trace_;
  TraceObserver observer_;
};

// The options of worker w<rank>, which uses these transports; empty: all that
// work here. With one transport, every byte goes over it. With several, a
// transport that does not work here is left out without an error.
AgentOptions RealWorkerOptions(int rank, int world_size,
                               std::vector<std::string> transports,
                               std::string_view bind_address);

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_REAL_WORKER_H_

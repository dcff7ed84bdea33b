// Makes the faults of a plan happen in a simulated world: it begins each fault
// at its time or event, and counts how often the faults strike. A fault whose
// time comes when the run is over does not begin, and neither does one that
// would hit a worker whose body has returned.

#ifndef REPRISE_FAULT_INJECTION_INJECTOR_H_
#define REPRISE_FAULT_INJECTION_INJECTOR_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "fault_injection/fault.h"
#include "fault_injection/fault_kind.h"
#include "sim/device/sim_gpus.h"
#include "sim/disk/sim_disk.h"
#include "sim/network/network.h"
#include "sim/store/sim_store.h"
#include "sim/world/world.h"

namespace reprise {

// How the injector reaches the workers of the run.
struct WorkerControl {
  // The node of the present incarnation; null if the worker is not alive.
  std::function<Node*(int32_t rank)> node;
  // Starts the next incarnation. Called on no fiber.
  std::function<void(int32_t rank)> restart;
  int32_t num_workers = 0;
};

// Must live as long as its world, and is used by whoever runs in the world. It
// listens to the trace, so make it before the first event.
class Injector {
 public:
  Injector(World& world, Network& network, SimStoreServer& store,
           SimDisks& disks, SimGpus& gpus, std::vector<Fault> faults,
           WorkerControl control);

  // The lines of the faults that have not struck.
  std::vector<std::string> never_struck() const;

  // How often each kind of fault struck, that is, had an effect on a worker, by
  // the kind's word.
  std::map<std::string, int64_t> injections() const;

  // The virtual time at which the last effect of a fault ended; 0 for none. A
  // fault that lasts for ever counts as over when it has begun: it may strike
  // with every step of a worker that hangs.
  int64_t last_effect_ns() const { return last_effect_ns_; }

 private:
  struct Progress {
    int64_t events_seen = 0;
    int64_t begun_ns = -1;  // -1: it has not begun
    int64_t until_ns = 0;   // when its effect ends, once it has begun
    bool struck = false;
  };

  void Arm(size_t index);
  void OnEvent(const Event& event);
  void Begin(size_t index);
  void Kill(size_t index, NodeDeath death);
  // Holds the links of the worker one after another.
  void Swizzle(const Fault& fault, int64_t until_ns);
  void Injected(FaultKind kind, std::string_view trace_text);
  // Marks which faults it was, and returns what kind they are: the network
  // does not tell a link that is held by a swizzle from another one. Nothing if
  // there are none. -1 stands for any worker.
  std::optional<FaultKind> Struck(FaultKind kind, int32_t worker,
                                  int32_t other);
  // A fault begins now and has effects until then.
  void Lasts(int64_t until_ns);
  void WatchStartsOf(int32_t rank);
  // A jump of a clock that is running strikes when the clock is next read.
  void WatchReadsOf(size_t index);
  void SetClock(const Fault& fault);

  World& world_;
  Network& network_;
  SimStoreServer& store_;
  SimDisks& disks_;
  SimGpus& gpus_;
  const std::vector<Fault> faults_;
  const WorkerControl control_;
  std::vector<Progress> progress_;   // per fault
  std::vector<int64_t> injections_;  // per kind
  int64_t last_effect_ns_ = 0;
};

}  // namespace reprise

#endif  // REPRISE_FAULT_INJECTION_INJECTOR_H_

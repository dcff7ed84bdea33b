// The simulated store. A world has one. Each node reaches it after a virtual
// delay, and not at all during an outage. Errors are those of agent/store.

#ifndef REPRISE_SIM_STORE_SIM_STORE_H_
#define REPRISE_SIM_STORE_SIM_STORE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/store/store.h"
#include "fault_injection/fault_kind.h"
#include "sim/world/world.h"

namespace reprise {

// The server's side. Not thread-safe: it is used by whoever runs in the world.
// It must outlive the operations of its clients.
class SimStoreServer {
 public:
  explicit SimStoreServer(World& world) : world_(world) {}

  // A client for the threads of `node`.
  std::shared_ptr<Store> Connect(Node& node);

  // Operations of `rank` (-1: of all) that reach the store before `until_ns`
  // fail with UNAVAILABLE.
  void SetOutage(int32_t rank, int64_t until_ns) {
    outage_until_ns_[rank] = until_ns;
  }
  // Until `until_ns`, each way to the store and back takes `delay_ns` longer.
  void SetDelay(int64_t delay_ns, int64_t until_ns) {
    delay_ns_ = delay_ns;
    delay_until_ns_ = until_ns;
  }
  // `watcher` is called each time when one of these strikes, with the worker
  // (-1: all of them).
  void OnInjected(std::function<void(FaultKind, int32_t)> watcher) {
    on_injected_ = std::move(watcher);
  }

 private:
  friend class SimStoreClient;
  bool InOutage(int32_t rank);
  int64_t ExtraDelay();
  void Changed(const std::string& key);

  World& world_;
  std::map<std::string, std::string> values_;
  // By their key; those of one key in the order in which they came.
  std::multimap<std::string, Fiber*> waiting_;
  std::map<int32_t, int64_t> outage_until_ns_;
  int64_t delay_ns_ = 0;
  int64_t delay_until_ns_ = 0;
  std::function<void(FaultKind, int32_t)> on_injected_;
};

}  // namespace reprise

#endif  // REPRISE_SIM_STORE_SIM_STORE_H_

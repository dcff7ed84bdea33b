// The simulated store. A world has one. Each node reaches it after a virtual
// delay, and not at all during an outage. Errors are those of agent/store.
//
// As with a real server, an operation that reports a failure may have taken
// effect, may take effect later, and what took effect may be lost when the
// server is restarted. Each is a fault, off by default.

#ifndef REPRISE_SIM_STORE_SIM_STORE_H_
#define REPRISE_SIM_STORE_SIM_STORE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
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
  // Until `until_ns`, the same for each operation on a slow key. The seed says
  // which keys are slow; about half of them are.
  void SetSlowKeys(int64_t delay_ns, int64_t until_ns) {
    slow_keys_delay_ns_ = delay_ns;
    slow_keys_until_ns_ = until_ns;
  }
  // Operations of `rank` (-1: of all) that take effect before `until_ns` get no
  // reply. Their callers learn of a broken connection at once (UNAVAILABLE), or
  // if it is `silent`, they wait until their deadline.
  void LoseReplies(int32_t rank, bool silent, int64_t until_ns) {
    lost_replies_[rank] = {until_ns, silent};
  }
  // Operations of `rank` (-1: of all) that reach the store before `until_ns`
  // fail with UNAVAILABLE at once, and take effect `delay_ns` later. Reads
  // fail, too, but strike nothing: they have no effect to come.
  void DelayEffects(int32_t rank, int64_t delay_ns, int64_t until_ns) {
    late_effects_[rank] = {until_ns, delay_ns};
  }
  // From now on the store can lose its last writes. To be called before the
  // first operation if `Restart` will be called.
  void KeepHistory() { keeps_history_ = true; }
  // The server dies and is started again at `until_ns`, without the writes of
  // its last `lost_ns`. Operations that are under way fail with UNAVAILABLE.
  void Restart(int64_t lost_ns, int64_t until_ns);

  // `watcher` is called each time when one of these strikes, with the worker
  // (-1: all of them).
  void OnInjected(std::function<void(FaultKind, int32_t)> watcher) {
    on_injected_ = std::move(watcher);
  }

 private:
  friend class SimStoreClient;

  struct LostReplies {
    int64_t until_ns = 0;
    bool silent = false;
  };
  struct LateEffects {
    int64_t until_ns = 0;
    int64_t delay_ns = 0;
  };
  struct Late {
    int32_t rank = -1;      // whose effects are late; -1: all are
    int64_t delay_ns = -1;  // -1: they are not
  };
  struct Write {
    int64_t time_ns;
    std::string key;
    std::optional<std::string> before;
  };

  // The effects of operations. None blocks.
  absl::Status Set(std::string_view key, std::string_view value);
  absl::StatusOr<std::string> TryGet(std::string_view key) const;
  absl::StatusOr<std::string> CompareSet(std::string_view key,
                                         std::string_view expected,
                                         std::string_view desired);
  absl::StatusOr<int64_t> Add(std::string_view key, int64_t delta);
  absl::StatusOr<bool> Delete(std::string_view key);

  // Before each change of a key.
  void Remember(const std::string& key);
  void Changed(const std::string& key);

  bool InOutage(int32_t rank);
  int64_t ExtraDelay(std::string_view key);
  // Whether a reply to `rank` is lost, and how. Null: it is not.
  const LostReplies* LosesReply(int32_t rank);
  // How late an operation of `rank` takes effect.
  Late LateBy(int32_t rank) const;
  void Injected(FaultKind kind, int32_t rank) {
    if (on_injected_) on_injected_(kind, rank);
  }

  World& world_;
  std::map<std::string, std::string> values_;
  // By their key; those of one key in the order in which they came.
  std::multimap<std::string, Fiber*> waiting_;
  std::map<int32_t, int64_t> outage_until_ns_;
  int64_t delay_ns_ = 0;
  int64_t delay_until_ns_ = 0;
  int64_t slow_keys_delay_ns_ = 0;
  int64_t slow_keys_until_ns_ = 0;
  std::map<int32_t, LostReplies> lost_replies_;
  std::map<int32_t, LateEffects> late_effects_;
  uint64_t num_late_ = 0;
  bool keeps_history_ = false;
  std::vector<Write> history_;
  int64_t down_until_ns_ = 0;
  int64_t restarts_ = 0;
  std::function<void(FaultKind, int32_t)> on_injected_;
};

}  // namespace reprise

#endif  // REPRISE_SIM_STORE_SIM_STORE_H_

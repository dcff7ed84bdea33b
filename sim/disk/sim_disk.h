// The disks of a simulated world: each worker has one, which outlives its
// incarnations. What it promises is what agent/disk/disk.h says, and no more:
// a power cut (the fault `power`) takes from it what was not synced, and a
// worker that dies in the middle of a write leaves a first part of it.
//
// It may be full or slow, and may fail to sync. Then, as with Linux, what was
// to be synced stays readable, counts as synced, and is lost in a power cut.

#ifndef REPRISE_SIM_DISK_SIM_DISK_H_
#define REPRISE_SIM_DISK_SIM_DISK_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/disk/disk.h"
#include "fault_injection/fault_kind.h"
#include "sim/world/world.h"

namespace reprise {

// Not thread-safe: used by whoever runs in the world, which must outlive it.
class SimDisks {
 public:
  explicit SimDisks(World& world);

  // The disk of the node's machine, for the threads of this node.
  std::unique_ptr<Disk> Connect(Node& node);

  // Until `until_ns`, what `rank` writes finds no room, but for a first part.
  void SetFull(int32_t rank, int64_t until_ns);
  // Until `until_ns`, each operation of `rank` takes `delay_ns` longer.
  void SetSlow(int32_t rank, int64_t delay_ns, int64_t until_ns);
  // The next sync of a file that `rank` has written to since its last one
  // fails, and its bytes never become durable.
  void FailNextSync(int32_t rank);

  // `watcher` is called each time when one of these strikes.
  void OnInjected(std::function<void(FaultKind, int32_t)> watcher) {
    on_injected_ = std::move(watcher);
  }

 private:
  friend class SimDisk;

  struct File {
    std::string content;  // what is read
    std::string durable;  // what survives whatever happens
    bool is_dirty = false;
    // A sync has failed: what is in `content` can be read, and counts as
    // synced, but a part of it is not durable before it is written again.
    bool is_lost = false;
  };
  using Names = std::map<std::string, std::shared_ptr<File>, std::less<>>;
  // One change of the names: `from` gives its file to `to`. `from` is empty if
  // the file is new, and `to` if it is removed.
  struct NameChange {
    std::string from;
    std::string to;
    std::shared_ptr<File> file;
  };
  struct Machine {
    Names names;
    Names durable_names;
    std::vector<NameChange> changes;  // since the last SyncNames
    int64_t full_until_ns = 0;
    int64_t slow_until_ns = 0;
    int64_t slow_ns = 0;
    bool next_sync_fails = false;
    uint64_t power_cuts = 0;
  };

  static void Apply(const NameChange& change, Names& names);
  void LosePower(int32_t rank);
  // What is left of a file whose machine lost its power.
  static void Tear(File& file, uint64_t draws);
  void Injected(FaultKind kind, int32_t rank) {
    if (on_injected_) on_injected_(kind, rank);
  }

  World& world_;
  std::map<int32_t, Machine> machines_;  // by rank
  std::function<void(FaultKind, int32_t)> on_injected_;
};

}  // namespace reprise

#endif  // REPRISE_SIM_DISK_SIM_DISK_H_

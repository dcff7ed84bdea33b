// The runtime seam of one simulated node: threads are fibers, time is virtual,
// and random bits are drawn from the world's decisions.

#ifndef REPRISE_SIM_WORLD_SIM_RUNTIME_H_
#define REPRISE_SIM_WORLD_SIM_RUNTIME_H_

#include <memory>
#include <string>
#include <vector>

#include "agent/runtime/runtime.h"
#include "sim/world/world.h"

namespace reprise {

// Only the fibers of `node` may use it. It must not outlive its world.
class SimRuntime : public Runtime {
 public:
  SimRuntime(World& world, Node& node);

  absl::Time Now() override;
  void SleepUntil(absl::Time deadline) override;
  std::unique_ptr<Thread> StartThread(std::string name,
                                      absl::AnyInvocable<void()> body) override;
  uint64_t RandomBits() override;
  const void* CurrentThread() override;
  bool HasMemory() override;

 private:
  void Lock(Mutex& mutex) override;
  void Unlock(Mutex& mutex) override;
  bool Wait(CondVar& cond_var, Mutex& mutex, absl::Time deadline) override;
  void Notify(CondVar& cond_var, bool all) override;

  void Acquire(Mutex& mutex, Site& site);
  // The running fiber's site at a lock or a condition variable, whose slot
  // keeps the place.
  Site& SiteOf(void*& slot, const char* verb, const char* name);
  Site& SiteAt(const Place& place);

  World& world_;
  Node& node_;
  const Place& sleep_;
  const Place& start_;
  const Place& join_;
  const Place& random_;
};

}  // namespace reprise

#endif  // REPRISE_SIM_WORLD_SIM_RUNTIME_H_

// Simulated worlds for tests.

#ifndef REPRISE_TESTS_UNIT_SIM_SIM_TESTING_H_
#define REPRISE_TESTS_UNIT_SIM_SIM_TESTING_H_

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "sim/world/scheduler.h"
#include "sim/world/sim_runtime.h"
#include "sim/world/world.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#include <sanitizer/lsan_interface.h>
#endif
#endif

namespace reprise {

inline constexpr int64_t kMicrosecond = 1'000;
inline constexpr int64_t kMillisecond = 1'000'000;
inline constexpr int64_t kSecond = 1'000'000'000;

// While an AllowLeaks exists, LeakSanitizer takes no allocation for a leak. A
// world that ends with fibers left is abandoned with all of its memory.
class AllowLeaks {
 public:
#ifdef __SANITIZE_ADDRESS__
  AllowLeaks() { __lsan_disable(); }
  ~AllowLeaks() { __lsan_enable(); }
#else
  AllowLeaks() {}
  ~AllowLeaks() {}
#endif
  AllowLeaks(const AllowLeaks&) = delete;
  AllowLeaks& operator=(const AllowLeaks&) = delete;
};

inline WorldOptions With(Policy policy, uint64_t seed = 1) {
  WorldOptions options;
  options.seed = seed;
  options.schedule.policy = policy;
  options.keep_trace = true;
  return options;
}

// A world that makes a node when the test asks for it.
class TestWorld {
 public:
  explicit TestWorld(const WorldOptions& options = With(Policy::kCooperative))
      : world_(std::make_unique<World>(options)) {}
  ~TestWorld() { World::Dispose(std::move(world_)); }

  World& operator*() { return *world_; }
  World* operator->() { return world_.get(); }

  Node& node(int32_t rank = 0) { return *At(rank).node; }
  SimRuntime& runtime(int32_t rank = 0) { return *At(rank).runtime; }

  // The next incarnation of a node that has crashed.
  Node& Restart(int32_t rank) {
    Machine& machine = machines_[rank];
    // The abandoned fibers refer to the old runtime.
    old_runtimes_.push_back(std::move(machine.runtime));
    machine.node = &world_->AddNode(rank, absl::StrCat("w", rank),
                                    machine.node->incarnation + 1);
    machine.runtime = std::make_unique<SimRuntime>(*world_, *machine.node);
    return *machine.node;
  }

  Fiber* Start(int32_t rank, std::string_view name,
               absl::AnyInvocable<void()> body) {
    return world_->scheduler().Start(node(rank), name, std::move(body));
  }

  Outcome Run() { return world_->Run(); }

  int64_t now_ns() const { return world_->now_ns(); }

  // A time of the runtime's clock. The zero of virtual time is a fixed date.
  absl::Time After(absl::Duration duration) { return world_->Now() + duration; }

 private:
  struct Machine {
    Node* node = nullptr;
    std::unique_ptr<SimRuntime> runtime;
  };
  Machine& At(int32_t rank) {
    Machine& machine = machines_[rank];
    if (machine.node == nullptr) {
      machine.node = &world_->AddNode(rank, absl::StrCat("w", rank));
      machine.runtime = std::make_unique<SimRuntime>(*world_, *machine.node);
    }
    return machine;
  }

  AllowLeaks allow_leaks_;
  std::unique_ptr<World> world_;
  std::map<int32_t, Machine> machines_;
  std::vector<std::unique_ptr<SimRuntime>> old_runtimes_;
};

inline constexpr Policy kPolicies[] = {Policy::kCooperative, Policy::kRandom,
                                       Policy::kPct};

}  // namespace reprise

#endif  // REPRISE_TESTS_UNIT_SIM_SIM_TESTING_H_

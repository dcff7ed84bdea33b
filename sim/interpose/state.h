// What the interposed functions keep for a world while it runs, outside of its
// arena. For sim/interpose's own bookkeeping.

#ifndef REPRISE_SIM_INTERPOSE_STATE_H_
#define REPRISE_SIM_INTERPOSE_STATE_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "sim/interpose/interposed_world.h"

namespace reprise {

// On the stack of a fiber that waits.
struct AddressWaiter {
  Fiber* fiber;
  const void* address;
  uint32_t bits;
  bool queued;
  AddressWaiter* next;
};

struct InterposedWorld {
  struct Queue {
    AddressWaiter* first = nullptr;
    AddressWaiter* last = nullptr;
  };
  struct CachedPlace {
    const void* return_address = nullptr;
    const interpose::CodePlace* place = nullptr;
  };
  struct CachedSite {
    const interpose::CodePlace* code = nullptr;
    interpose::Verb verb = interpose::Verb::kLock;
    const Place* place = nullptr;
  };
  static constexpr size_t kQueues = 64;
  static constexpr size_t kCached = 256;

  Queue queues[kQueues];
  CachedPlace places[kCached];
  CachedSite sites[kCached];
  std::vector<std::pair<const Node*, uint64_t>> rand_states;
  int run = 0;
  int owner_bits = 0;
  bool prepared = false;  // the process, for user code
  bool has_detached = false;
};

namespace interpose {

// By these ids mutexes note their owners. Ids of threads are below 2^22. Bit 29
// tells those of fibers; 9 bits are the run's and 20 the fiber's.
inline constexpr int kFiberBits = 20;
inline int OwnerIdOf(World& world, const Fiber& fiber) {
  return world.interposed->owner_bits |
         static_cast<int>(fiber.id & ((1 << kFiberBits) - 1));
}

// Tells the owners of mutexes in this run from those in other ones.
void TakeRunNumber(InterposedWorld& state);
void ReturnRunNumber(InterposedWorld& state);

}  // namespace interpose
}  // namespace reprise

#endif  // REPRISE_SIM_INTERPOSE_STATE_H_

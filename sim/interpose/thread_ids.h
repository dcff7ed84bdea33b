// Handles of threads that are fibers.

#ifndef REPRISE_SIM_INTERPOSE_THREAD_IDS_H_
#define REPRISE_SIM_INTERPOSE_THREAD_IDS_H_

#include <pthread.h>

#include "sim/interpose/interposed_world.h"

namespace reprise::interpose {

// No address that libc could take for a thread of its own.
inline constexpr pthread_t kFirstHandle = 0x7e50000000;

inline pthread_t HandleOf(const Fiber& fiber) {
  return kFirstHandle + fiber.id;
}

// Null: no fiber of `world` has this handle.
Fiber* FiberOf(World& world, pthread_t handle);

}  // namespace reprise::interpose

#endif  // REPRISE_SIM_INTERPOSE_THREAD_IDS_H_

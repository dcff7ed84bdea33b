// Mutexes of libc as fibers lock them, for condition variables as well.

#ifndef REPRISE_SIM_INTERPOSE_MUTEXES_H_
#define REPRISE_SIM_INTERPOSE_MUTEXES_H_

#include <pthread.h>

#include "sim/interpose/interposed_world.h"

namespace reprise::interpose {

// Locks for the running fiber, without a point. `return_address` is the
// interposed function's. Returns 0 or an error of pthread_mutex_lock.
int AcquireMutex(World& world, pthread_mutex_t* mutex, int64_t deadline_ns,
                 bool only_try, const void* return_address);

// To be called by the holder, who may have taken the mutex before one who waits
// for it: its release then wakes the next who waits, too.
void NoteWaiters(World& world, pthread_mutex_t* mutex);

// Returns 0 or EPERM.
int ReleaseMutex(World& world, pthread_mutex_t* mutex);

}  // namespace reprise::interpose

#endif  // REPRISE_SIM_INTERPOSE_MUTEXES_H_

// Read-write locks that fibers hold.

#ifndef REPRISE_SIM_INTERPOSE_RWLOCKS_H_
#define REPRISE_SIM_INTERPOSE_RWLOCKS_H_

namespace reprise::interpose {

// Gives up one holding of a `pthread_rwlock_t` whose holder is dead.
void ReleaseRwLock(void* rwlock);

}  // namespace reprise::interpose

#endif  // REPRISE_SIM_INTERPOSE_RWLOCKS_H_

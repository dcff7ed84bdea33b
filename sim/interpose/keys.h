// Values of pthread keys, of which each fiber has its own.

#ifndef REPRISE_SIM_INTERPOSE_KEYS_H_
#define REPRISE_SIM_INTERPOSE_KEYS_H_

#include "sim/interpose/interposed_world.h"

namespace reprise::interpose {

// As at the end of a thread: calls the destructor of each value that is not
// null, up to PTHREAD_DESTRUCTOR_ITERATIONS times. On the fiber that ends.
void RunKeyDestructors(InterposedThread& thread);

}  // namespace reprise::interpose

#endif  // REPRISE_SIM_INTERPOSE_KEYS_H_

// The stacks of fibers that do not run, for reports of a process that is about
// to end.

#ifndef REPRISE_SIM_WORLD_FIBER_STACKS_H_
#define REPRISE_SIM_WORLD_FIBER_STACKS_H_

namespace reprise {

struct Fiber;

// Fills `frames` with the return addresses on the stack of `fiber`, innermost
// first, and returns their number, at most `max`. The fiber must be suspended,
// and can never be continued afterwards. Returns 0 for what is no fiber with a
// stack of its own, and under AddressSanitizer, which does not allow it.
// Allocates nothing, and may be called in a signal handler on the OS thread of
// the world, after one call of `backtrace` anywhere in the process.
int StackOfSuspended(Fiber& fiber, void** frames, int max);

}  // namespace reprise

#endif  // REPRISE_SIM_WORLD_FIBER_STACKS_H_

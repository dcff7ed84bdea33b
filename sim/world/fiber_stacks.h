// What is asked of the stacks of fibers beside switching between them.

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

// Gives back the pages below the calling fiber's frame, which an earlier and
// deeper call has touched. For a fiber that is about to wait for long in a
// world with very many fibers: it takes a microsecond or two. Does nothing
// under AddressSanitizer, and for what is no fiber with a stack of its own.
void ReleaseUnusedStack(const Fiber& fiber);

}  // namespace reprise

#endif  // REPRISE_SIM_WORLD_FIBER_STACKS_H_

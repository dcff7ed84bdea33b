// Takes the machine's clocks away from worlds, so that `verify` can tell
// whether a run depends on them.
//
// What a fiber of a world reads then, by whatever library, is a clock of the
// trap's own, which begins at a given time and advances with each read.
// Two runs under traps of the same time differ because of something else. Code
// outside of worlds reads the machine's clocks as before.
//
// It takes over the kernel's functions for clocks in this process (the vDSO),
// and makes the instruction that reads the time stamp counter trap. A system
// call by an instruction of one's own goes past it.

#ifndef REPRISE_SIM_EXPLORE_CLOCK_TRAP_H_
#define REPRISE_SIM_EXPLORE_CLOCK_TRAP_H_

#include <cstdint>

namespace reprise {

// On the thread that runs the worlds. One at a time in a process. The first 100
// reads are noted (sim/world/leak_watch.h), except those of the logging
// library, which asks for the time of every message, also of those that it
// drops.
class ClockTrap {
 public:
  // `start_ns` is what the first read gives, since the epoch of any clock.
  explicit ClockTrap(int64_t start_ns);
  ClockTrap(const ClockTrap&) = delete;
  ClockTrap& operator=(const ClockTrap&) = delete;
  ~ClockTrap();

  // Whether it can work here: on x86-64 with a kernel that lets a process
  // change its vDSO. Elsewhere it does nothing.
  static bool IsSupported();
};

}  // namespace reprise

#endif  // REPRISE_SIM_EXPLORE_CLOCK_TRAP_H_

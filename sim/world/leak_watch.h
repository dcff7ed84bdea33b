// What code of a world takes from outside of it: the machine's clock, random
// numbers of the machine, threads that the world does not schedule. Whoever
// sees such a call notes it here, and `verify` reads the notes, so that it can
// say why two runs of a seed differ.
//
// `NoteLeak` may be called on any thread, from a signal handler too: it takes
// no lock and allocates nothing. Without a watch it costs one load.

#ifndef REPRISE_SIM_WORLD_LEAK_WATCH_H_
#define REPRISE_SIM_WORLD_LEAK_WATCH_H_

#include <cstdint>
#include <string_view>
#include <vector>

namespace reprise {

enum class LeakKind : uint8_t {
  kAddress,  // the order or value of addresses
  kClock,    // a clock of the machine
  kRandom,   // random numbers of the machine
  kStatic,   // what an earlier run left in the process
  kThread,   // a thread that the world does not schedule
};

// "address", "clock", "random", "static", "thread".
std::string_view ToString(LeakKind kind);

struct Leak {
  LeakKind kind = LeakKind::kAddress;
  // The return address of the call; null if it is not known.
  const void* caller = nullptr;
  int64_t count = 0;
};

// Notes that `caller` got something of `kind` from outside. It counts only
// while a watch exists and a fiber of a world runs on this OS thread, so those
// who call it need not know whether they are in a world.
void NoteLeak(LeakKind kind, const void* caller);

// Collects the notes of the process while it exists. One at a time.
class LeakWatch {
 public:
  LeakWatch();
  LeakWatch(const LeakWatch&) = delete;
  LeakWatch& operator=(const LeakWatch&) = delete;
  ~LeakWatch();

  // Whether there is a watch in this process.
  static bool IsOn();

  // A line for each kind and caller, in the order of the first call. At most
  // 64 of them are kept.
  std::vector<Leak> leaks() const;
};

}  // namespace reprise

#endif  // REPRISE_SIM_WORLD_LEAK_WATCH_H_

// Defers SIGINT and SIGTERM until the run that they interrupt has cleaned up.

#ifndef REPRISE_TOOLS_PROCESSES_INTERRUPTION_H_
#define REPRISE_TOOLS_PROCESSES_INTERRUPTION_H_

#include <signal.h>

namespace reprise {

// While an Interruption exists, the signals only set `signal()` and end a
// blocking `poll`. The destructor restores their former handling, and raises
// the signal again if one has come. At most one may exist at a time. Not
// thread-safe.
class Interruption {
 public:
  Interruption();
  Interruption(const Interruption&) = delete;
  Interruption& operator=(const Interruption&) = delete;
  ~Interruption();

  // The signal that has come; 0 for none.
  static int signal();

 private:
  struct sigaction old_int_;
  struct sigaction old_term_;
};

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_INTERRUPTION_H_

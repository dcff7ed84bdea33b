// SIGINT and SIGTERM, put off until what they interrupt has tidied up.

#ifndef REPRISE_TOOLS_PROCESSES_INTERRUPTION_H_
#define REPRISE_TOOLS_PROCESSES_INTERRUPTION_H_

#include <signal.h>

namespace reprise {

// While one lives, the signals only set `signal()` and end a blocking `poll`.
// The destructor restores what they did before, and does that if one has come.
// One at a time; not thread-safe.
class Interruption {
 public:
  Interruption();
  Interruption(const Interruption&) = delete;
  Interruption& operator=(const Interruption&) = delete;
  ~Interruption();

  // The signal that came; 0: none.
  static int signal();

 private:
  struct sigaction old_int_;
  struct sigaction old_term_;
};

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_INTERRUPTION_H_

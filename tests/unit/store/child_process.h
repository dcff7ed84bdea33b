// Child processes for tests, made by fork. A child has one thread, must not use
// gtest, and ends without calling destructors or atexit functions.

#ifndef REPRISE_TESTS_UNIT_STORE_CHILD_PROCESS_H_
#define REPRISE_TESTS_UNIT_STORE_CHILD_PROCESS_H_

#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/functional/function_ref.h"

namespace reprise {

// Ends the child with status 1 unless `condition` holds. The defaults are the
// place of the call, since clang 14 has no std::source_location.
inline void ExpectInChild(bool condition, const char* file = __builtin_FILE(),
                          int line = __builtin_LINE()) {
  if (condition) return;
  fprintf(stderr, "%s:%d: false in a child process\n", file, line);
  _exit(1);
}

// Runs `body` in a child process. The destructor kills it and waits for it.
class ChildProcess {
 public:
  explicit ChildProcess(absl::FunctionRef<void()> body) : pid_(fork()) {
    if (pid_ == 0) {
      // The child is killed too if the test itself is killed.
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      body();
      _exit(0);
    }
  }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  ~ChildProcess() { Kill(); }

  // The status with which the child ended, 0 if all went well, or -1 if there
  // was none.
  int Wait() {
    int status = -1;
    if (pid_ > 0) waitpid(pid_, &status, 0);
    pid_ = -1;
    return status;
  }

  // Returns when the child has ended.
  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    Wait();
  }

 private:
  pid_t pid_;
};

inline int RunInChild(absl::FunctionRef<void()> body) {
  return ChildProcess(body).Wait();
}

}  // namespace reprise

#endif  // REPRISE_TESTS_UNIT_STORE_CHILD_PROCESS_H_

// A second process that runs this program with other arguments.
//
// It lives until its standard input ends, and dies with its parent's thread
// that started it. What it writes to standard output is read by `ReadLine`.

#ifndef REPRISE_TESTS_GPU_CHILD_H_
#define REPRISE_TESTS_GPU_CHILD_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace reprise::gpu {

class Child {
 public:
  // `arguments`: behind the program's name.
  static absl::StatusOr<std::unique_ptr<Child>> Start(
      std::vector<std::string> arguments);
  // Kills it if it runs.
  ~Child();

  // Without the newline. UNAVAILABLE when it has ended, DEADLINE_EXCEEDED.
  absl::StatusOr<std::string> ReadLine(absl::Duration timeout);

  // Sends SIGKILL and waits for its end.
  void Kill();
  // Ends its standard input. OK when it then ends with exit code 0.
  absl::Status End(absl::Duration timeout);

 private:
  Child(pid_t pid, int input, int output)
      : pid_(pid), input_(input), output_(output) {}

  pid_t pid_;  // 0: has ended
  int input_;  // -1: closed
  const int output_;
  std::string read_;
};

// In the child: dies with the parent, and blocks until standard input ends.
void DieWithParent();
void WaitForEndOfInput();

}  // namespace reprise::gpu

#endif  // REPRISE_TESTS_GPU_CHILD_H_

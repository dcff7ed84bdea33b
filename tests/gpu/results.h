// What a program on GPUs reports: a line for each check on standard output, and
// an exit code.
//
// Programs here run on machines without the project's tools, so they use no
// test framework. Thread-safe.

#ifndef REPRISE_TESTS_GPU_RESULTS_H_
#define REPRISE_TESTS_GPU_RESULTS_H_

#include <mutex>
#include <string_view>

#include "absl/status/status.h"

namespace reprise::gpu {

inline constexpr int kPassed = 0;
inline constexpr int kFailed = 1;
inline constexpr int kWrongUsage = 2;
inline constexpr int kSkipped = 77;

class Results {
 public:
  // "ok    WHAT", or "FAIL  WHAT: why".
  void Check(std::string_view what, const absl::Status& status);
  void Check(std::string_view what, bool holds, std::string_view why);
  // "skip  WHAT: why"
  void Skip(std::string_view what, std::string_view why);

  // Prints how many there were of each. `kFailed` if a check failed, else
  // `kSkipped` if everything was skipped, else `kPassed`.
  int Finish();

 private:
  void Print(int& count, std::string_view word, std::string_view what,
             std::string_view why);

  std::mutex mutex_;
  int num_passed_ = 0;
  int num_failed_ = 0;
  int num_skipped_ = 0;
};

// For a program that can do nothing here: prints "skip  WHY".
int SkipAll(std::string_view why);

}  // namespace reprise::gpu

#endif  // REPRISE_TESTS_GPU_RESULTS_H_

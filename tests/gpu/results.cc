#include "tests/gpu/results.h"

#include <cstdio>
#include <string>

namespace reprise::gpu {

void Results::Print(int& count, std::string_view word, std::string_view what,
                    std::string_view why) {
  const std::lock_guard lock(mutex_);
  ++count;
  std::printf("%s%s%s%s\n", std::string(word).c_str(),
              std::string(what).c_str(), why.empty() ? "" : ": ",
              std::string(why).c_str());
  // The program may be killed at any time.
  std::fflush(stdout);
}

void Results::Check(std::string_view what, const absl::Status& status) {
  Check(what, status.ok(), status.ToString());
}

void Results::Check(std::string_view what, bool holds, std::string_view why) {
  if (holds) return Print(num_passed_, "ok    ", what, "");
  Print(num_failed_, "FAIL  ", what, why);
}

void Results::Skip(std::string_view what, std::string_view why) {
  Print(num_skipped_, "skip  ", what, why);
}

int Results::Finish() {
  const std::lock_guard lock(mutex_);
  std::printf("%d passed, %d failed, %d skipped\n", num_passed_, num_failed_,
              num_skipped_);
  std::fflush(stdout);
  if (num_failed_ > 0) return kFailed;
  return num_passed_ == 0 ? kSkipped : kPassed;
}

int SkipAll(std::string_view why) {
  Results().Skip("everything", why);
  return kSkipped;
}

}  // namespace reprise::gpu

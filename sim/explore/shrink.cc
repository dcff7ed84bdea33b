#include "sim/explore/shrink.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace reprise {
namespace {

constexpr int kMaxRuns = 400;

class Shrinker {
 public:
  Shrinker(const SimRunOptions& options, std::string rule, double max_seconds)
      : options_(options),
        rule_(std::move(rule)),
        end_(std::chrono::steady_clock::now() +
             std::chrono::duration_cast<std::chrono::nanoseconds>(
                 std::chrono::duration<double>(max_seconds))) {}

  // Whether these decisions and faults break the same rule.
  std::optional<RunResult> Try(const std::vector<Decision>& decisions,
                               const std::vector<std::string>& faults) {
    if (++runs_ > kMaxRuns || std::chrono::steady_clock::now() > end_) {
      return std::nullopt;
    }
    SimRunOptions options = options_;
    options.recording = &decisions;
    options.faults = faults;
    options.keep_trace = true;
    absl::StatusOr<RunResult> result = RunSimulated(options);
    if (!result.ok() || result->rule != rule_) return std::nullopt;
    return *std::move(result);
  }

 private:
  const SimRunOptions& options_;
  const std::string rule_;
  const std::chrono::steady_clock::time_point end_;
  int runs_ = 0;
};

template <typename T>
std::vector<T> Without(const std::vector<T>& all, size_t begin, size_t end) {
  std::vector<T> rest(all.begin(),
                      all.begin() + static_cast<std::ptrdiff_t>(begin));
  rest.insert(rest.end(), all.begin() + static_cast<std::ptrdiff_t>(end),
              all.end());
  return rest;
}

}  // namespace

RunResult Shrink(const SimRunOptions& options, RunResult failed,
                 double max_seconds) {
  Shrinker shrinker(options, failed.rule, max_seconds);
  std::optional<RunResult> best = shrinker.Try(failed.decisions, failed.faults);
  if (!best) return failed;

  for (size_t i = best->faults.size(); i-- > 0;) {
    auto smaller =
        shrinker.Try(best->decisions, Without(best->faults, i, i + 1));
    if (smaller) best = std::move(smaller);
  }
  // Leaves out all decisions at once, then halves, quarters, and so on down to
  // single decisions.
  for (size_t chunk = best->decisions.size(); chunk > 0; chunk /= 2) {
    size_t begin = 0;
    while (begin < best->decisions.size()) {
      const size_t end = std::min(begin + chunk, best->decisions.size());
      auto smaller =
          shrinker.Try(Without(best->decisions, begin, end), best->faults);
      // What became unreachable is gone from the decisions as well.
      if (smaller && smaller->decisions.size() < best->decisions.size()) {
        best = std::move(smaller);
      } else {
        begin = end;
      }
    }
  }
  return *std::move(best);
}

}  // namespace reprise

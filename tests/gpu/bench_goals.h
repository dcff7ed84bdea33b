// What the channels should reach on one H200, and whether they do.

#ifndef REPRISE_TESTS_GPU_BENCH_GOALS_H_
#define REPRISE_TESTS_GPU_BENCH_GOALS_H_

#include <cstddef>
#include <string>

#include "absl/strings/str_format.h"
#include "tests/gpu/pipe_end.h"

namespace reprise::gpu {

struct Sample {
  Way way;
  size_t num_bytes = 0;
  double round_trip_us = 0;
  double there_and_back = 0;  // GB/s
  double one_way = 0;         // GB/s
  double plain_copy = 0;      // GB/s
};

struct Verdict {
  bool has_goal = false;
  bool is_met = false;
  std::string text;  // "" without a goal
};

inline Verdict AtLeast(double value, double goal, const char* unit) {
  const bool is_met = value >= goal;
  return {
      true, is_met,
      absl::StrFormat(">= %g %s: %s", goal, unit, is_met ? "met" : "NOT MET")};
}

// Rates are those of one way. For cuda_ipc they are what stock PyTorch's
// channel reached there and back.
inline Verdict JudgeGoal(const Sample& sample) {
  constexpr size_t kMiB = size_t{1} << 20;
  const size_t num_bytes = sample.num_bytes;
  const std::string& channel = sample.way.channel;
  const bool is_shm = sample.way.transport == "shm";
  const double ratio =
      sample.plain_copy > 0 ? sample.one_way / sample.plain_copy : 0;
  if (channel == "cuda_direct" && is_shm) {
    if (num_bytes == 256 * kMiB) return AtLeast(ratio, 0.9, "of a copy");
    if (num_bytes == 64 * kMiB) return AtLeast(ratio, 0.8, "of a copy");
    if (num_bytes == kMiB) return AtLeast(ratio, 0.3, "of a copy");
    if (num_bytes == 64) {
      const bool is_met = sample.round_trip_us <= 80;
      return {true, is_met,
              std::string("<= 80 us: ") + (is_met ? "met" : "NOT MET")};
    }
  }
  if (channel == "cuda_host" && num_bytes == 256 * kMiB) {
    return AtLeast(sample.one_way, is_shm ? 42 : 10, "GB/s");
  }
  if (channel == "cuda_ipc" && is_shm) {
    if (num_bytes == 256 * kMiB) {
      return AtLeast(sample.there_and_back, 95, "GB/s");
    }
    if (num_bytes == 64 * kMiB) {
      return AtLeast(sample.there_and_back, 111, "GB/s");
    }
  }
  return {};
}

}  // namespace reprise::gpu

#endif  // REPRISE_TESTS_GPU_BENCH_GOALS_H_

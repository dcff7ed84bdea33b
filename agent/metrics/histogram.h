// A histogram of durations with fixed buckets on a logarithmic scale: at most
// 1 us, 2 us, 4 us, ... 134 s, and more.
//
// Lock-free and of a fixed size: to record costs two relaxed additions.

#ifndef REPRISE_AGENT_METRICS_HISTOGRAM_H_
#define REPRISE_AGENT_METRICS_HISTOGRAM_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace reprise {

// Thread-safe. A snapshot that is taken while values are recorded may lack some
// of them, or have them in the buckets only.
class Histogram {
 public:
  static constexpr size_t kNumBounds = 28;
  // The last bucket holds what is above all bounds.
  using Counts = std::array<uint64_t, kNumBounds + 1>;

  // The longest duration that bucket `i` holds.
  static constexpr int64_t BoundNanoseconds(size_t i) {
    return int64_t{1000} << i;
  }

  static constexpr size_t BucketOf(int64_t nanoseconds) {
    if (nanoseconds <= 1000) return 0;
    const uint64_t whole_us = (static_cast<uint64_t>(nanoseconds) - 1) / 1000;
    return std::min<size_t>(std::bit_width(whole_us), kNumBounds);
  }

  // A negative duration counts as none.
  void Record(int64_t nanoseconds) {
    buckets_[BucketOf(nanoseconds)].fetch_add(1, std::memory_order_relaxed);
    sum_ns_.fetch_add(std::max<int64_t>(nanoseconds, 0),
                      std::memory_order_relaxed);
  }

  // Not cumulative.
  Counts counts() const {
    Counts counts;
    for (size_t i = 0; i < counts.size(); ++i) {
      counts[i] = buckets_[i].load(std::memory_order_relaxed);
    }
    return counts;
  }
  int64_t sum_nanoseconds() const {
    return sum_ns_.load(std::memory_order_relaxed);
  }

 private:
  std::array<std::atomic<uint64_t>, kNumBounds + 1> buckets_{};
  std::atomic<int64_t> sum_ns_ = 0;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_METRICS_HISTOGRAM_H_

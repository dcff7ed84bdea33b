// A vector clock: of each timeline, how much of it has certainly happened.
//
// A timeline is a stream of a simulated GPU, and its epochs number its work
// from 1. Work A happens before work B if B's clock includes A's epoch.

#ifndef REPRISE_SIM_DEVICE_VECTOR_CLOCK_H_
#define REPRISE_SIM_DEVICE_VECTOR_CLOCK_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace reprise {

class VectorClock {
 public:
  bool Includes(size_t timeline, uint64_t epoch) const {
    return At(timeline) >= epoch;
  }

  uint64_t At(size_t timeline) const {
    return timeline < epochs_.size() ? epochs_[timeline] : 0;
  }

  void Join(const VectorClock& other) {
    if (epochs_.size() < other.epochs_.size()) {
      epochs_.resize(other.epochs_.size(), 0);
    }
    for (size_t i = 0; i < other.epochs_.size(); ++i) {
      epochs_[i] = std::max(epochs_[i], other.epochs_[i]);
    }
  }

  // Begins the next epoch of `timeline` and returns it.
  uint64_t Tick(size_t timeline) {
    if (epochs_.size() <= timeline) epochs_.resize(timeline + 1, 0);
    return ++epochs_[timeline];
  }

 private:
  std::vector<uint64_t> epochs_;
};

}  // namespace reprise

#endif  // REPRISE_SIM_DEVICE_VECTOR_CLOCK_H_

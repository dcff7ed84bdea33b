// Which slots of a staging area are free, and who waits for one.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_SLOT_POOL_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_SLOT_POOL_H_

#include <deque>
#include <functional>
#include <utility>
#include <vector>

namespace reprise {

// Slots are given to those that asked first, the lowest free slot first. Not
// thread-safe: it belongs to the loop of one context. A function that is given
// a slot may call any function here.
class SlotPool {
 public:
  // No slot will ever come.
  static constexpr int kNone = -1;
  using Taker = std::function<void(int slot)>;

  explicit SlotPool(int num_slots)
      : is_free_(num_slots, true), num_left_(num_slots) {}

  // Calls `taker` with a slot, now or when there is one.
  void Take(Taker taker) {
    takers_.push_back(std::move(taker));
    Serve();
  }
  // Gives back a slot.
  void Give(int slot) {
    is_free_[slot] = true;
    Serve();
  }
  // Takes a slot that somebody has out of use for good. When none is left,
  // those that wait get `kNone`.
  void Retire(int /*slot*/) {
    --num_left_;
    Serve();
  }
  bool has_retired() const {
    return num_left_ < static_cast<int>(is_free_.size());
  }

 private:
  int FindFree() const {
    for (size_t i = 0; i < is_free_.size(); ++i) {
      if (is_free_[i]) return static_cast<int>(i);
    }
    return kNone;
  }
  void Serve() {
    while (!takers_.empty()) {
      const int slot = FindFree();
      if (slot == kNone && num_left_ > 0) return;
      if (slot != kNone) is_free_[slot] = false;
      const Taker taker = std::move(takers_.front());
      takers_.pop_front();
      taker(slot);
    }
  }

  std::vector<bool> is_free_;
  int num_left_;
  std::deque<Taker> takers_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_SLOT_POOL_H_

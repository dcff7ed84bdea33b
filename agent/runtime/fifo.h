// A queue that holds no memory while it has never been used, and at most 1 KiB
// once it is empty again. std::deque takes 600 bytes for an empty one, and an
// agent has some twenty queues of which most stay empty.
//
// Not thread-safe. A change of the queue invalidates references into it. What
// an element does when it is destroyed must not touch the queue.

#ifndef REPRISE_AGENT_RUNTIME_FIFO_H_
#define REPRISE_AGENT_RUNTIME_FIFO_H_

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace reprise {

// `T` must have a default, by which an element that was taken is replaced.
template <typename T>
class Fifo {
 public:
  Fifo() = default;
  Fifo(Fifo&& other) noexcept { swap(other); }
  Fifo& operator=(Fifo&& other) noexcept {
    Fifo(std::move(other)).swap(*this);
    return *this;
  }

  bool empty() const { return size() == 0; }
  size_t size() const { return items_.size() - taken_; }

  // The queue must not be empty.
  T& front() { return items_[taken_]; }
  const T& front() const { return items_[taken_]; }

  // Oldest first.
  auto begin() { return items_.begin() + Offset(); }
  auto end() { return items_.end(); }
  auto begin() const { return items_.begin() + Offset(); }
  auto end() const { return items_.end(); }

  void push_back(T item) { items_.push_back(std::move(item)); }

  // Takes constant time after a `pop_front`, else as long as the queue is.
  void push_front(T item) {
    if (taken_ == 0) {
      items_.insert(items_.begin(), std::move(item));
    } else {
      items_[--taken_] = std::move(item);
    }
  }

  // The queue must not be empty.
  void pop_front() {
    items_[taken_++] = T();
    if (taken_ == items_.size()) {
      clear();
    } else if (taken_ >= kMostTaken && 2 * taken_ >= items_.size()) {
      items_.erase(items_.begin(), begin());
      taken_ = 0;
    }
  }

  // Takes out all for which `is_gone` holds.
  template <typename Predicate>
  void EraseIf(Predicate is_gone) {
    items_.erase(std::remove_if(begin(), end(), is_gone), end());
    if (empty()) clear();
  }

  void clear() {
    taken_ = 0;
    if (items_.capacity() * sizeof(T) > kMostKeptBytes) {
      items_ = std::vector<T>();
    } else {
      items_.clear();
    }
  }

  void swap(Fifo& other) noexcept {
    items_.swap(other.items_);
    std::swap(taken_, other.taken_);
  }

 private:
  // For which an empty queue keeps memory, so that a busy one does not allocate
  // anew each time it was empty.
  static constexpr size_t kMostKeptBytes = 1024;
  // Elements that were taken, before the others are moved to the front.
  static constexpr size_t kMostTaken = 16;

  std::ptrdiff_t Offset() const { return static_cast<std::ptrdiff_t>(taken_); }

  std::vector<T> items_;
  size_t taken_ = 0;  // of the first ones in `items_`
};

}  // namespace reprise

#endif  // REPRISE_AGENT_RUNTIME_FIFO_H_

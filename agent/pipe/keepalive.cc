#include "agent/pipe/keepalive.h"

#include <utility>

namespace reprise {
namespace {

// The slowest connection that is not called dead, bytes in a second.
constexpr int64_t kSlowest = int64_t{1} << 20;

// A tick so late tells of this process, not of its peers.
constexpr absl::Duration kLate = absl::Milliseconds(500);

}  // namespace

absl::Duration TimeToCarry(size_t num_bytes) {
  return absl::Seconds(1) * (static_cast<int64_t>(num_bytes) / kSlowest);
}

LifeWatch::LifeWatch(Runtime& runtime, Timer& timer, Look look)
    : runtime_(runtime),
      timer_(timer),
      look_(std::move(look)),
      mutex_(runtime, "LifeWatch") {}

void LifeWatch::Expect(absl::Time due) {
  if (due == absl::InfiniteFuture()) return;
  MutexLock lock(mutex_);
  if (closed_) return;
  if (key_.has_value()) {
    if (key_->first <= due) return;
    timer_.Cancel(*key_);
  }
  key_ = timer_.Schedule(due, [this, due] { Tick(due); });
}

void LifeWatch::Tick(absl::Time due) {
  {
    MutexLock lock(mutex_);
    if (closed_) return;
    // Another one may have been scheduled while this one waited for the lock.
    if (key_.has_value() && key_->first <= due) key_.reset();
  }
  const absl::Time now = runtime_.Now();
  Expect(look_(now, now - due > kLate));
}

void LifeWatch::Close() {
  MutexLock lock(mutex_);
  closed_ = true;
  if (key_.has_value()) timer_.Cancel(*key_);
  key_.reset();
}

}  // namespace reprise

#include "agent/pipe/keepalive.h"

#include <utility>

#include "agent/planted.h"
#include "agent/rare_way.h"

namespace reprise {
namespace {

// A tick that is later than this shows that this process was held up, and says
// nothing about its peers.
constexpr absl::Duration kLate = absl::Milliseconds(500);

}  // namespace

Keepalive::Keepalive(Runtime& runtime, Timer& timer, Check check)
    : runtime_(runtime),
      timer_(timer),
      check_(std::move(check)),
      mutex_(runtime, "LifeWatch") {}

void Keepalive::Expect(absl::Time due) {
  if (due == absl::InfiniteFuture()) return;
  if (REPRISE_RARE_WAY("keepalive looks early")) due = runtime_.Now();
  MutexLock lock(mutex_);
  if (closed_) return;
  if (key_.has_value()) {
    if (key_->first <= due) return;
    timer_.Cancel(*key_);
  }
  key_ = timer_.Schedule(due, [this, due] { Tick(due); });
}

void Keepalive::Tick(absl::Time due) {
  {
    MutexLock lock(mutex_);
    if (closed_) return;
    // Another tick may have been scheduled while this one waited for the lock.
    if (key_.has_value() && key_->first <= due) key_.reset();
  }
  const absl::Time now = runtime_.Now();
  const bool late = now - due > kLate;
  const absl::Time next = check_(now, late);
  if (late && REPRISE_PLANTED(keepalive_ends_when_late)) return;
  Expect(next);
}

void Keepalive::Close() {
  MutexLock lock(mutex_);
  closed_ = true;
  if (key_.has_value()) timer_.Cancel(*key_);
  key_.reset();
}

}  // namespace reprise

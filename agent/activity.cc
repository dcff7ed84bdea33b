#include "agent/activity.h"

#include <optional>

#include "agent/planted.h"

namespace reprise {

Activity::Activity(Runtime& runtime)
    : mutex_(runtime, "Activity"), changed_(runtime, "Activity.changed") {}

Activity::Token Activity::StartCall() {
  MutexLock lock(mutex_);
  ++counts_.running[kCall];
  ++counts_.started;
  return Token(this, kCall);
}

Activity::RequestTokens Activity::StartRequest() {
  MutexLock lock(mutex_);
  ++counts_.running[kHandler];
  ++counts_.running[kReply];
  ++counts_.started;
  return {Token(this, kHandler), Token(this, kReply)};
}

void Activity::End(Kind kind) {
  MutexLock lock(mutex_);
  if (--counts_.running[kind] == 0 && waiters_ > 0) changed_.NotifyAll();
}

Activity::Token Activity::StartOffer() {
  MutexLock lock(mutex_);
  ++counts_.running[kOffer];
  return Token(this, kOffer);
}

Activity::Counts Activity::counts() {
  MutexLock lock(mutex_);
  return counts_;
}

std::optional<Activity::Counts> Activity::WaitUntilQuiet(absl::Time deadline) {
  if (REPRISE_PLANTED(join_ignores_timeout)) deadline = absl::InfiniteFuture();
  MutexLock lock(mutex_);
  ++waiters_;
  bool in_time = true;
  // This tests for 0 and not "<= 0": a count that went wrong must not pass for
  // quiet.
  while (!interrupted_ && in_time &&
         (counts_.running[kCall] != 0 || counts_.running[kHandler] != 0)) {
    in_time = changed_.WaitUntil(mutex_, deadline);
  }
  --waiters_;
  if (interrupted_ || counts_.running[kCall] != 0 ||
      counts_.running[kHandler] != 0) {
    return std::nullopt;
  }
  return counts_;
}

void Activity::Interrupt() {
  MutexLock lock(mutex_);
  interrupted_ = true;
  changed_.NotifyAll();
}

bool Activity::WaitForNone(Kind kind, absl::Time deadline) {
  MutexLock lock(mutex_);
  ++waiters_;
  bool in_time = true;
  while (in_time && counts_.running[kind] > 0) {
    in_time = changed_.WaitUntil(mutex_, deadline);
  }
  --waiters_;
  return counts_.running[kind] <= 0;
}

#ifdef REPRISE_WITH_PLANTED_DEFECTS
void PlantedAccess::EndCall(Activity& activity) {
  activity.End(Activity::kCall);
}
#endif

}  // namespace reprise

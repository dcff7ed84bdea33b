#include "agent/server/idempotency.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace reprise {

bool IdempotentCalls::Run::IsCancelled(int64_t /*call_id*/,
                                       absl::Time /*deadline*/) {
  MutexLock lock(mutex_);
  return has_ended_ ||
         std::any_of(attempts_.begin(), attempts_.end(),
                     [](const Attempt& attempt) {
                       return attempt.pipe->WasCancelled(attempt.call_id);
                     });
}

IdempotentCalls::IdempotentCalls(Runtime& runtime, Options options)
    : runtime_(runtime),
      options_(options),
      mutex_(runtime, "IdempotentCalls") {}

absl::StatusOr<IdempotentCalls::Begun> IdempotentCalls::Begin(Key key,
                                                              Attempt attempt) {
  const absl::Time now = runtime_.Now();
  Dropped dropped;
  std::vector<Answer> answers;
  std::shared_ptr<Run> run;
  bool is_new = false;
  {
    MutexLock lock(mutex_);
    Evict(now, dropped, answers);
    const auto found = runs_.find(key);
    if (found != runs_.end()) {
      run = found->second;
    } else {
      if (runs_.size() - done_.size() >= options_.max_calls) {
        return absl::ResourceExhaustedError(
            "too many calls with idempotency keys run");
      }
      run = std::make_shared<Run>(runtime_, key);
      runs_.emplace(std::move(key), run);
      is_new = true;
    }
  }
  MutexLock lock(run->mutex_);
  if (!run->done_) {
    run->attempts_.push_back(std::move(attempt));
    return Begun{is_new ? run : nullptr, {}};
  }
  if (run->answer_.encoded == nullptr) {
    return absl::FailedPreconditionError(
        "the call with this idempotency key ran, and its reply is no longer "
        "kept");
  }
  return Begun{nullptr, run->answer_};
}

std::vector<IdempotentCalls::Attempt> IdempotentCalls::Finish(
    const std::shared_ptr<Run>& run, Answer answer) {
  std::vector<Attempt> attempts;
  const size_t bytes =
      answer.encoded == nullptr ? 0 : answer.encoded->num_bytes();
  {
    MutexLock lock(run->mutex_);
    if (run->done_) return attempts;
    run->done_ = true;
    run->answer_ = std::move(answer);
    attempts.swap(run->attempts_);
  }
  Dropped dropped;
  std::vector<Answer> answers;
  const absl::Time now = runtime_.Now();
  MutexLock lock(mutex_);
  if (runs_.find(run->key_) == runs_.end()) return attempts;  // cleared
  run->bytes_ = bytes;
  run->done_at_ = now;
  kept_bytes_ += bytes;
  done_.push_back(run);
  kept_.push_back(run);
  Evict(now, dropped, answers);
  return attempts;
}

void IdempotentCalls::Evict(absl::Time now, Dropped& dropped,
                            std::vector<Answer>& answers) {
  const auto drop_reply = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    Run& oldest = *kept_.front();
    MutexLock lock(oldest.mutex_);
    answers.push_back(std::move(oldest.answer_));
    oldest.answer_ = Answer();
    kept_bytes_ -= oldest.bytes_;
    kept_.pop_front();
  };
  while (kept_bytes_ > options_.max_bytes && !kept_.empty()) drop_reply();
  while (!done_.empty() && (done_.size() > options_.max_calls ||
                            now - done_.front()->done_at_ > options_.memory)) {
    // Both are in the order of their answers.
    if (!kept_.empty() && kept_.front() == done_.front()) drop_reply();
    runs_.erase(done_.front()->key_);
    dropped.push_back(std::move(done_.front()));
    done_.pop_front();
  }
}

void IdempotentCalls::Clear() {
  Runs runs;
  std::deque<std::shared_ptr<Run>> done;
  std::deque<std::shared_ptr<Run>> kept;
  {
    MutexLock lock(mutex_);
    runs.swap(runs_);
    done.swap(done_);
    kept.swap(kept_);
    kept_bytes_ = 0;
  }
  for (const auto& [key, run] : runs) {
    MutexLock lock(run->mutex_);
    run->has_ended_ = true;
  }
}

size_t IdempotentCalls::size() {
  MutexLock lock(mutex_);
  return runs_.size();
}

}  // namespace reprise

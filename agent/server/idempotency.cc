#include "agent/server/idempotency.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "agent/planted.h"
#include "agent/probe.h"

namespace reprise {
namespace {

// The number of callers' agents for which the newest forgotten key is
// remembered.
constexpr size_t kMaxForgottenAgents = 65536;

absl::Status MayHaveRun(std::string_view why) {
  return absl::FailedPreconditionError(
      absl::StrCat("the call with this idempotency key may have run before: ",
                   absl::string_view(why.data(), why.size()),
                   ". Find out whether it ran; a call that is to run in any "
                   "case needs a new key."));
}

}  // namespace

bool IdempotentCalls::Run::IsCancelled(int64_t /*call_id*/,
                                       absl::Time /*deadline*/) {
  if (*stopped_) return true;
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
      stopped_(std::make_shared<std::atomic<bool>>(false)),
      mutex_(runtime, "IdempotentCalls") {}

absl::StatusOr<IdempotentCalls::Begun> IdempotentCalls::Begin(
    const std::string& caller, const CallExtras& extras, Attempt attempt) {
  const absl::Time now = runtime_.Now();
  Key key(extras.caller_instance, extras.idempotency_key);
  Dropped dropped;
  std::shared_ptr<Run> run;
  bool is_new = false;
  {
    MutexLock lock(mutex_);
    Evict(now, caller, dropped);
    const auto found = runs_.find(key);
    if (found != runs_.end()) {
      run = found->second;
    } else {
      if (absl::Status status = CheckNew(caller, extras); !status.ok()) {
        return status;
      }
      run = std::make_shared<Run>(runtime_, key, caller, extras.key_number,
                                  stopped_);
      runs_.emplace(std::move(key), run);
      Caller& of = callers_[caller];
      ++of.num_calls;
      ++of.num_running;
      ++num_running_;
      is_new = true;
    }
  }
  bool seemed_to_run = false;
  if (REPRISE_PLANTED(attempt_joins_late)) {
    MutexLock lock(run->mutex_);
    seemed_to_run = !run->done_;
  }
  MutexLock lock(run->mutex_);
  if (!run->done_ || seemed_to_run) {
    run->attempts_.push_back(std::move(attempt));
    return Begun{is_new ? run : nullptr, {}};
  }
  if (run->answer_.encoded == nullptr) {
    REPRISE_PROBE("reply to a key is no longer kept");
    return absl::FailedPreconditionError(
        "the call with this idempotency key ran, and its reply is no longer "
        "kept");
  }
  return Begun{nullptr, run->answer_};
}

absl::Status IdempotentCalls::CheckNew(const std::string& caller,
                                       const CallExtras& extras) {
  if (extras.key_number != 0 && !REPRISE_PLANTED(forgotten_runs_again)) {
    if (extras.memory != options_.id) {
      REPRISE_PROBE("key of another memory");
      constexpr std::string_view kOther =
          "it was sent to another agent of this name, which has ended or was "
          "replaced";
      if (extras.attempt > 0) return MayHaveRun(kOther);
      return absl::UnavailableError(
          absl::StrCat("the call with this idempotency key did not run: ",
                       absl::string_view(kOther.data(), kOther.size())));
    }
    const auto forgotten = forgotten_.find(extras.caller_instance);
    if (forgotten != forgotten_.end()
            ? extras.key_number <= forgotten->second
            : forgot_an_agent_ && extras.attempt > 0) {
      return MayHaveRun(
          "keys of its caller as old as this one were forgotten "
          "(max_idempotent_calls, idempotency_memory)");
    }
  }
  const auto found = callers_.find(caller);
  if (found != callers_.end() &&
      found->second.num_running >= options_.max_calls_per_caller) {
    return absl::ResourceExhaustedError(absl::StrCat(
        found->second.num_running, " calls of ", caller,
        " with idempotency keys run (max_idempotent_calls_per_caller)"));
  }
  if (num_running_ >= options_.max_calls) {
    return absl::ResourceExhaustedError(absl::StrCat(
        num_running_,
        " calls with idempotency keys run (max_idempotent_calls)"));
  }
  return absl::OkStatus();
}

std::vector<IdempotentCalls::Attempt> IdempotentCalls::Finish(
    const std::shared_ptr<Run>& run, Answer answer, bool remember) {
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
  const absl::Time now = runtime_.Now();
  MutexLock lock(mutex_);
  const auto found = runs_.find(run->key_);
  if (found == runs_.end()) {
    REPRISE_PROBE("keyed call ends after the shutdown");
    return attempts;
  }
  Caller& caller = callers_[run->caller_name_];
  --caller.num_running;
  --num_running_;
  if (!remember) {
    runs_.erase(found);
    if (--caller.num_calls == 0) callers_.erase(run->caller_name_);
    return attempts;
  }
  run->bytes_ = bytes;
  run->done_at_ = now;
  run->is_kept_ = true;
  run->in_all_ = done_.insert(done_.end(), run);
  run->in_own_ = caller.done.insert(caller.done.end(), run);
  run->in_kept_ = caller.kept.insert(caller.kept.end(), run);
  caller.kept_bytes += bytes;
  kept_bytes_ += bytes;
  Evict(now, run->caller_name_, dropped);
  return attempts;
}

void IdempotentCalls::Evict(absl::Time now, const std::string& caller,
                            Dropped& dropped) {
  while (!done_.empty() && now - done_.front()->done_at_ > options_.memory) {
    Forget(done_.front(), dropped);
  }
  const auto found = callers_.find(caller);
  if (found != callers_.end()) {
    Caller& own = found->second;
    while (own.kept_bytes > options_.max_bytes_per_caller) {
      DropReply(*own.kept.front(), own, dropped);
    }
    while (own.done.size() > options_.max_calls_per_caller) {
      // At least one call of the caller is left, so `own` stays valid.
      Forget(own.done.front(), dropped);
    }
  }
  while (kept_bytes_ > options_.max_bytes) {
    Caller& most =
        std::max_element(callers_.begin(), callers_.end(),
                         [](const auto& a, const auto& b) {
                           return a.second.kept_bytes < b.second.kept_bytes;
                         })
            ->second;
    DropReply(*most.kept.front(), most, dropped);
  }
  while (done_.size() > options_.max_calls) {
    Caller& most =
        std::max_element(callers_.begin(), callers_.end(),
                         [](const auto& a, const auto& b) {
                           return a.second.done.size() < b.second.done.size();
                         })
            ->second;
    Forget(most.done.front(), dropped);
  }
}

void IdempotentCalls::Forget(std::shared_ptr<Run> run, Dropped& dropped) {
  Caller& caller = callers_[run->caller_name_];
  if (run->is_kept_) DropReply(*run, caller, dropped);
  if (run->number_ != 0) NoteForgotten(run->key_.first, run->number_);
  done_.erase(run->in_all_);
  caller.done.erase(run->in_own_);
  if (--caller.num_calls == 0) callers_.erase(run->caller_name_);
  runs_.erase(run->key_);
  dropped.runs.push_back(std::move(run));
}

void IdempotentCalls::DropReply(Run& run, Caller& caller, Dropped& dropped) {
  {
    MutexLock lock(run.mutex_);
    dropped.answers.push_back(std::move(run.answer_));
    run.answer_ = Answer();
  }
  run.is_kept_ = false;
  caller.kept_bytes -= run.bytes_;
  kept_bytes_ -= run.bytes_;
  caller.kept.erase(run.in_kept_);
}

void IdempotentCalls::NoteForgotten(uint64_t instance, uint64_t number) {
  const auto [entry, is_new] = forgotten_.try_emplace(instance, number);
  entry->second = std::max(entry->second, number);
  if (!is_new) return;
  forgotten_order_.push_back(instance);
  if (forgotten_order_.size() <= kMaxForgottenAgents) return;
  forgotten_.erase(forgotten_order_.front());
  forgotten_order_.pop_front();
  forgot_an_agent_ = true;
}

void IdempotentCalls::Clear() {
  Runs runs;
  Callers callers;
  RunList done;
  {
    MutexLock lock(mutex_);
    runs.swap(runs_);
    callers.swap(callers_);
    done.swap(done_);
    num_running_ = 0;
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

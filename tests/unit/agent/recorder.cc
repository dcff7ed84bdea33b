#include "tests/unit/agent/recorder.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"

namespace reprise::testing {
namespace {

const char* WordFor(PipeEvent event) {
  switch (event) {
    case PipeEvent::kConnecting:
      return "connecting";
    case PipeEvent::kConnected:
      return "connected";
    case PipeEvent::kAccepted:
      return "accepted";
    case PipeEvent::kFailed:
      return "failed";
    case PipeEvent::kClosed:
      return "closed";
  }
  return "?";
}

}  // namespace

bool Recorder::WaitFor(const std::string& event, int times) {
  const absl::Time deadline = Soon();
  MutexLock lock(mutex_);
  while (std::count(events_.begin(), events_.end(), event) < times) {
    if (!changed_.WaitUntil(mutex_, deadline)) return false;
  }
  return true;
}

int Recorder::Count(const std::string& event) {
  MutexLock lock(mutex_);
  return static_cast<int>(std::count(events_.begin(), events_.end(), event));
}

std::vector<std::string> Recorder::events() {
  MutexLock lock(mutex_);
  return events_;
}

void Recorder::Record(std::string event) {
  MutexLock lock(mutex_);
  events_.push_back(std::move(event));
  changed_.NotifyAll();
}

void Recorder::OnCallStarted(WorkerId to, int64_t call_id, const Message&,
                             absl::Time, std::string_view label) {
  {
    MutexLock lock(mutex_);
    EXPECT_EQ(++open_calls_[std::make_pair(to, call_id)], 1);
  }
  Record("started");
  if (!label.empty()) Record("started " + std::string(label));
}

void Recorder::OnCallCompleted(WorkerId to, int64_t call_id,
                               const absl::Status& status,
                               const Message* reply) {
  EXPECT_EQ(status.ok(), reply != nullptr);
  {
    MutexLock lock(mutex_);
    EXPECT_EQ(--open_calls_[std::make_pair(to, call_id)], 0);
  }
  Record("completed");
}

void Recorder::OnCallRetried(WorkerId to, int64_t call_id,
                             int64_t first_call_id) {
  {
    MutexLock lock(mutex_);
    // The first one was started and has ended, this one is still to start.
    const auto first = open_calls_.find(std::make_pair(to, first_call_id));
    EXPECT_TRUE(first != open_calls_.end() && first->second == 0);
    EXPECT_FALSE(open_calls_.contains(std::make_pair(to, call_id)));
  }
  Record("retried");
}

void Recorder::OnLateReply(WorkerId, int64_t) { Record("late"); }

void Recorder::OnRequest(std::string_view, int64_t, const Message&) {
  Record("request");
}

void Recorder::OnReply(std::string_view, int64_t, const absl::Status& status,
                       const Message* reply) {
  EXPECT_EQ(status.ok(), reply != nullptr);
  Record("reply");
}

void Recorder::OnPipe(PipeEvent event, std::string_view peer,
                      const absl::Status&) {
  Record(absl::StrCat("pipe ", WordFor(event), " ", std::string(peer)));
}

void Recorder::OnListening(std::string_view) { Record("listening"); }

void Recorder::OnListenerFailed(const absl::Status&) {
  Record("listener failed");
}

void Recorder::OnBarrierEntered(int64_t barrier) {
  Record(absl::StrCat("entered ", barrier));
}

void Recorder::OnBarrierLeft(int64_t barrier, const absl::Status&) {
  Record(absl::StrCat("left ", barrier));
}

void Recorder::OnShutdown() { Record("shutdown"); }

}  // namespace reprise::testing

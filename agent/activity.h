// What an agent has running, as counts: its calls, the handlers that it runs
// for others, the replies that it owes, and the tensors that peers may be
// copying out of its memory.
//
// `Join` needs two answers from one moment: whether anything runs, and whether
// anything was started since it last asked.

#ifndef REPRISE_AGENT_ACTIVITY_H_
#define REPRISE_AGENT_ACTIVITY_H_

#include <array>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"

namespace reprise {

// Thread-safe. Must outlive its tokens.
class Activity {
 public:
  enum Kind {
    kCall,     // from `Send` until the last callback of its future has run
    kHandler,  // from the request's arrival until the handler has returned
    kReply,    // from the request's arrival until it was answered
    kOffer,    // from the write of a message with tensors until it was taken
    kNumKinds,
  };

  // Counts for one thing that runs, for as long as it lives.
  class Token {
   public:
    Token() = default;
    Token(Token&& other) noexcept { *this = std::move(other); }
    Token& operator=(Token&& other) noexcept {
      Release();
      activity_ = std::exchange(other.activity_, nullptr);
      kind_ = other.kind_;
      return *this;
    }
    ~Token() { Release(); }

    void Release() {
      if (activity_ != nullptr) {
        std::exchange(activity_, nullptr)->End(kind_);
      }
    }

   private:
    friend class Activity;
    friend struct PlantedAccess;
    Token(Activity* activity, Kind kind) : activity_(activity), kind_(kind) {}

    Activity* activity_ = nullptr;
    Kind kind_ = kCall;
  };

  struct Counts {
    std::array<int64_t, kNumKinds> running{};
    uint64_t started = 0;  // calls and requests so far
  };

  explicit Activity(Runtime& runtime);

  Token StartCall();
  struct RequestTokens {
    Token handler;
    Token reply;
  };
  RequestTokens StartRequest();
  Token StartOffer();

  Counts counts();

  // Waits until no call and no handler runs; returns the counts of that moment.
  // Returns nullopt when `deadline` passes first, or after `Interrupt`.
  std::optional<Counts> WaitUntilQuiet(absl::Time deadline);
  void Interrupt();

  // Waits until none of this kind runs. Returns false at `deadline`.
  bool WaitForNone(Kind kind, absl::Time deadline);

 private:
  friend struct PlantedAccess;
  void End(Kind kind);

  Mutex mutex_;
  CondVar changed_;  // a count reached 0, or interrupted_ was set
  Counts counts_ ABSL_GUARDED_BY(mutex_);
  int waiters_ ABSL_GUARDED_BY(mutex_) = 0;
  bool interrupted_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_ACTIVITY_H_

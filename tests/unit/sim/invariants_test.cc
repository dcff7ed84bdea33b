// Each invariant, broken once.

#include "sim/trace/invariants.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace reprise {
namespace {

constexpr auto kOk = static_cast<int64_t>(absl::StatusCode::kOk);
constexpr auto kDeadlineExceeded =
    static_cast<int64_t>(absl::StatusCode::kDeadlineExceeded);
constexpr auto kCancelled = static_cast<int64_t>(absl::StatusCode::kCancelled);
constexpr auto kUnavailable =
    static_cast<int64_t>(absl::StatusCode::kUnavailable);

// Feeds the events of a group of two workers.
class InvariantsTest : public testing::Test {
 protected:
  InvariantsTest()
      : invariants_(2, [this](std::string_view rule, std::string_view detail) {
          violations_.push_back(std::string(rule));
          details_.push_back(std::string(detail));
        }) {}

  void Happens(int32_t node, EventKind kind, uint64_t id = 0, int64_t a = 0,
               int64_t b = 0, uint64_t c = 0, std::string text = "") {
    Event event;
    event.time_ns = now_ns_;
    event.node = node;
    event.kind = kind;
    event.id = id;
    event.a = a;
    event.b = b;
    event.c = c;
    event.text = std::move(text);
    invariants_.OnEvent(event);
  }

  // Call 7 from w0 to w1 with a deadline at 1000 ns, up to its reply.
  void StartCall() {
    Happens(0, EventKind::kListening);
    Happens(1, EventKind::kListening);
    Happens(0, EventKind::kCallStarted, 7, 1, 1000, 0xaa);
  }
  void Answer() {
    Happens(1, EventKind::kRequest, 7, 0, 0, 0xaa, "w0");
    Happens(1, EventKind::kReply, 7, 0, kOk, 0xbb, "w0");
  }

  int64_t now_ns_ = 0;
  std::vector<std::string> violations_;
  std::vector<std::string> details_;
  Invariants invariants_;
};

using Rules = std::vector<std::string>;

TEST_F(InvariantsTest, AnOrdinaryCallBreaksNone) {
  StartCall();
  Answer();
  Happens(0, EventKind::kCallCompleted, 7, 1, kOk, 0xbb);
  for (int32_t node : {0, 1}) {
    Happens(node, EventKind::kBarrierEntered, 1);
  }
  for (int32_t node : {0, 1}) {
    Happens(node, EventKind::kBarrierLeft, 1, 0, kOk);
    Happens(node, EventKind::kShutdown);
    Happens(node, EventKind::kWorkerEnded);
  }
  invariants_.Finish();
  EXPECT_EQ(violations_, Rules());
}

TEST_F(InvariantsTest, ACallThatIsCompletedTwice) {
  StartCall();
  Answer();
  Happens(0, EventKind::kCallCompleted, 7, 1, kOk, 0xbb);
  Happens(0, EventKind::kCallCompleted, 7, 1, kOk, 0xbb);
  EXPECT_EQ(violations_, Rules{"exactly-once"});
}

TEST_F(InvariantsTest, ACallThatIsNeverCompleted) {
  StartCall();
  invariants_.Finish();
  EXPECT_EQ(violations_, Rules{"exactly-once"});
}

TEST_F(InvariantsTest, ACallThatWasNeverStarted) {
  Happens(0, EventKind::kListening);
  Happens(0, EventKind::kCallCompleted, 7, 1, kOk, 0xbb);
  EXPECT_EQ(violations_, Rules{"exactly-once"});
}

TEST_F(InvariantsTest, AnIdThatIsUsedTwice) {
  StartCall();
  Happens(0, EventKind::kCallStarted, 7, 1, 1000, 0xaa);
  EXPECT_EQ(violations_, Rules{"exactly-once"});
}

TEST_F(InvariantsTest, AShutdownWithACallOpen) {
  StartCall();
  Happens(0, EventKind::kShutdown);
  EXPECT_EQ(violations_, Rules{"exactly-once"});
}

TEST_F(InvariantsTest, ATimeoutBeforeTheDeadline) {
  StartCall();
  now_ns_ = 999;
  Happens(0, EventKind::kCallCompleted, 7, 1, kDeadlineExceeded, 0, "late");
  EXPECT_EQ(violations_, Rules{"deadline"});
}

TEST_F(InvariantsTest, ATimeoutOfTheRemoteFunctionIsRightAtAnyTime) {
  StartCall();
  Happens(0, EventKind::kCallCompleted, 7, 1, kDeadlineExceeded, 0,
          "Error on Node 1: DEADLINE_EXCEEDED: RPCErr:1:RPC ran for more");
  EXPECT_EQ(violations_, Rules{});
}

TEST_F(InvariantsTest, ATimeoutAtTheDeadlineIsRight) {
  StartCall();
  now_ns_ = 1000;
  Happens(0, EventKind::kCallCompleted, 7, 1, kDeadlineExceeded, 0, "late");
  EXPECT_EQ(violations_, Rules());
}

TEST_F(InvariantsTest, AnErrorWithoutACause) {
  StartCall();
  Happens(0, EventKind::kCallCompleted, 7, 1, kUnavailable, 0, "");
  EXPECT_EQ(violations_, Rules{"named-cause"});
}

TEST_F(InvariantsTest, ARequestThatArrivesChanged) {
  StartCall();
  Happens(1, EventKind::kRequest, 7, 0, 0, 0xab, "w0");
  EXPECT_EQ(violations_, Rules{"byte-for-byte"});
}

TEST_F(InvariantsTest, AReplyThatArrivesChanged) {
  StartCall();
  Answer();
  Happens(0, EventKind::kCallCompleted, 7, 1, kOk, 0xbc);
  EXPECT_EQ(violations_, Rules{"byte-for-byte"});
}

TEST_F(InvariantsTest, ARequestAfterShutdown) {
  StartCall();
  Happens(1, EventKind::kShutdown);
  Happens(1, EventKind::kRequest, 7, 0, 0, 0xaa, "w0");
  EXPECT_EQ(violations_, Rules{"after-shutdown"});
}

TEST_F(InvariantsTest, ASecondAgentAfterShutdownIsRight) {
  StartCall();
  Happens(1, EventKind::kShutdown);
  Happens(1, EventKind::kListening);
  Happens(1, EventKind::kRequest, 7, 0, 0, 0xaa, "w0");
  EXPECT_EQ(violations_, Rules());
}

TEST_F(InvariantsTest, ABarrierThatLetsOneOutEarly) {
  Happens(0, EventKind::kListening);
  Happens(0, EventKind::kBarrierEntered, 1);
  Happens(0, EventKind::kBarrierLeft, 1, 0, kOk);
  EXPECT_EQ(violations_, Rules{"barrier"});
}

TEST_F(InvariantsTest, ABarrierLeftWithAnErrorIsRight) {
  Happens(0, EventKind::kListening);
  Happens(0, EventKind::kBarrierEntered, 1);
  Happens(0, EventKind::kBarrierLeft, 1, 0, kDeadlineExceeded, 0, "missing");
  EXPECT_EQ(violations_, Rules());
}

// Where no agent of ours has listened there may be another one, of which no
// event tells.
TEST_F(InvariantsTest, AForeignWorkerTellsNothing) {
  Invariants foreign(
      2,
      [this](std::string_view rule, std::string_view) {
        violations_.push_back(std::string(rule));
      },
      /*may_be_foreign=*/true);
  const auto happens = [&](EventKind kind, uint64_t id, int64_t a, int64_t b,
                           uint64_t c, std::string text) {
    Event event;
    event.node = 0;
    event.kind = kind;
    event.id = id;
    event.a = a;
    event.b = b;
    event.c = c;
    event.text = std::move(text);
    foreign.OnEvent(event);
  };
  happens(EventKind::kListening, 0, 0, 0, 0, "");
  happens(EventKind::kRequest, 3, 0, 0, 0xaa, "w1");
  happens(EventKind::kCallStarted, 7, 1, 1000, 0xaa, "");
  happens(EventKind::kCallCompleted, 7, 1, kOk, 0xbb, "");
  happens(EventKind::kBarrierEntered, 1, 0, 0, 0, "");
  happens(EventKind::kBarrierLeft, 1, 0, kOk, 0, "");
  EXPECT_EQ(violations_, Rules());
  // What w0 says of itself must still be right.
  happens(EventKind::kRequest, 8, 0, 0, 0xaa, "w0");
  EXPECT_EQ(violations_, Rules{"byte-for-byte"});
}

TEST_F(InvariantsTest, AWorkerThatEndsBeforeItsAgent) {
  Happens(0, EventKind::kListening);
  Happens(0, EventKind::kWorkerEnded);
  EXPECT_EQ(violations_, Rules{"shutdown"});
}

TEST_F(InvariantsTest, ACrashedWorkerOwesNothing) {
  StartCall();
  Happens(0, EventKind::kCrash);
  Happens(0, EventKind::kListening);
  Happens(0, EventKind::kCallStarted, 7, 1, 1000, 0xcc);
  Happens(1, EventKind::kRequest, 7, 0, 0, 0xcc, "w0");
  Happens(1, EventKind::kReply, 7, 0, kOk, 0xdd, "w0");
  Happens(0, EventKind::kCallCompleted, 7, 1, kOk, 0xdd);
  invariants_.Finish();
  EXPECT_EQ(violations_, Rules());
}

constexpr char kReset[] = "connection to w1 failed: ECONNRESET";

TEST_F(InvariantsTest, AFailureOfAConnectionThatFailed) {
  StartCall();
  Happens(0, EventKind::kPipeFailed, 0, 0, kUnavailable, 0,
          std::string("w1: ") + kReset);
  Happens(0, EventKind::kCallCompleted, 7, 1, kUnavailable, 0,
          std::string(kReset) + " (call push)");
  Happens(0, EventKind::kShutdown);
  invariants_.Finish();
  EXPECT_EQ(violations_, Rules());
}

TEST_F(InvariantsTest, AFailureOfWhichAnotherThreadTellsLater) {
  StartCall();
  Happens(0, EventKind::kCallCompleted, 7, 1, kUnavailable, 0, kReset);
  Happens(0, EventKind::kPipeFailed, 0, 0, kUnavailable, 0,
          std::string("w1: ") + kReset);
  Happens(0, EventKind::kShutdown);
  EXPECT_EQ(violations_, Rules());
}

TEST_F(InvariantsTest, AFailureOfAConnectionThatDidNotFail) {
  StartCall();
  Happens(0, EventKind::kPipeFailed, 0, 0, kUnavailable, 0,
          "w1: connection to w1 failed: EOF");
  Happens(0, EventKind::kCallCompleted, 7, 1, kUnavailable, 0, kReset);
  EXPECT_EQ(violations_, Rules());
  // Nor does one that comes much later.
  now_ns_ = 1'000'000'000;
  Happens(0, EventKind::kPipeFailed, 0, 0, kUnavailable, 0,
          std::string("w1: ") + kReset);
  Happens(0, EventKind::kShutdown);
  EXPECT_EQ(violations_, Rules{"unfounded"});
}

TEST_F(InvariantsTest, AFailureOfAnEarlierConnection) {
  Happens(0, EventKind::kListening);
  Happens(0, EventKind::kPipeFailed, 0, 0, kUnavailable, 0,
          std::string("w1: ") + kReset);
  now_ns_ = 100'000'000;
  Happens(0, EventKind::kPipeConnected, 0, 0, 0, 0, "w1");
  Happens(0, EventKind::kCallStarted, 7, 1, 200'000'000, 0xaa);
  Happens(0, EventKind::kCallCompleted, 7, 1, kUnavailable, 0, kReset);
  invariants_.Finish();
  EXPECT_EQ(violations_, Rules{"unfounded"});
}

constexpr char kGivenUp[] = "the call was cancelled";
constexpr char kSilent[] =
    "w1: connection to w1 failed: no sign of life from w1 for 2us";

TEST_F(InvariantsTest, AConnectionThatFailsForSilenceAndWasHeard) {
  Happens(0, EventKind::kConnect, 3, 1);
  now_ns_ = 2000;
  Happens(0, EventKind::kDeliver, 3);
  now_ns_ = 2900;
  Happens(0, EventKind::kPipeFailed, 0, 0, kUnavailable, 0, kSilent);
  EXPECT_EQ(violations_, Rules{"heard"});
}

TEST_F(InvariantsTest, AConnectionThatFailsForSilence) {
  Happens(0, EventKind::kConnect, 3, 1);
  now_ns_ = 2000;
  Happens(0, EventKind::kDeliver, 3);
  Happens(1, EventKind::kDeliver, 3);
  Happens(0, EventKind::kConnect, 4, 2);
  now_ns_ = 3000;
  Happens(0, EventKind::kDeliver, 4);
  Happens(0, EventKind::kPipeFailed, 0, 0, kUnavailable, 0, kSilent);
  EXPECT_EQ(violations_, Rules());
}

TEST_F(InvariantsTest, WhoeverIsPausedDoesNotHear) {
  Happens(0, EventKind::kConnect, 3, 1);
  Happens(-1, EventKind::kFault, 0, 0, 0, 0, "pause");
  now_ns_ = 2000;
  Happens(0, EventKind::kDeliver, 3);
  Happens(0, EventKind::kPipeFailed, 0, 0, kUnavailable, 0, kSilent);
  EXPECT_EQ(violations_, Rules());
}

TEST_F(InvariantsTest, ACallThatIsHandedOverTwice) {
  StartCall();
  Answer();
  Happens(1, EventKind::kRequest, 7, 0, 0, 0xaa, "w0");
  EXPECT_EQ(violations_, Rules{"handed-over"});
}

TEST_F(InvariantsTest, ACallThatIsAnsweredTwice) {
  StartCall();
  Answer();
  Happens(1, EventKind::kReply, 7, 0, kOk, 0xbb, "w0");
  EXPECT_EQ(violations_, Rules{"answered"});
}

TEST_F(InvariantsTest, ACallThatIsSentWhenItHasEnded) {
  now_ns_ = 100;
  StartCall();
  now_ns_ = 200;
  Happens(0, EventKind::kCallCompleted, 7, 1, kCancelled, 0, kGivenUp);
  now_ns_ = 300;
  Happens(0, EventKind::kConnect, 3, 1);
  Happens(1, EventKind::kDeliver, 3);
  Answer();
  EXPECT_EQ(violations_, Rules{"given-up"});
}

TEST_F(InvariantsTest, ACallThatEndsWhileItIsOnItsWay) {
  now_ns_ = 100;
  StartCall();
  Happens(0, EventKind::kConnect, 3, 1);
  now_ns_ = 200;
  Happens(0, EventKind::kCallCompleted, 7, 1, kCancelled, 0, kGivenUp);
  now_ns_ = 300;
  Happens(1, EventKind::kDeliver, 3);
  Happens(0, EventKind::kConnect, 4, 1);
  Happens(1, EventKind::kDeliver, 4);
  Answer();
  EXPECT_EQ(violations_, Rules());
}

TEST_F(InvariantsTest, NobodyKnowsHowACallCameWithoutEventsOfTheNetwork) {
  now_ns_ = 100;
  StartCall();
  Happens(0, EventKind::kCallCompleted, 7, 1, kCancelled, 0, kGivenUp);
  now_ns_ = 300;
  Answer();
  EXPECT_EQ(violations_, Rules());
}

TEST_F(InvariantsTest, OnlyTheFirstViolationIsTold) {
  StartCall();
  Happens(0, EventKind::kCallStarted, 7, 1, 1000, 0xaa);
  Happens(0, EventKind::kShutdown);
  EXPECT_EQ(violations_.size(), 1u);
  EXPECT_EQ(details_[0], "w0 call 7: its id was used before");
}

}  // namespace
}  // namespace reprise

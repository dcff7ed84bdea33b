// Shows the effect of each kind of fault on a running group.

#include "fault_injection/injector.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "fault_injection/fault.h"
#include "sim/view/story.h"
#include "tests/unit/fault_injection/injector_testing.h"

namespace reprise {
namespace {

TEST(InjectorTest, WithoutFaultsNothingFails) {
  const RunResult result = RunWith({});
  EXPECT_EQ(FailedCalls(result, absl::StatusCode::kUnavailable), 0);
  EXPECT_EQ(FailedCalls(result, absl::StatusCode::kDeadlineExceeded), 0);
  EXPECT_EQ(Count(result, EventKind::kCallStarted), 30);
  EXPECT_TRUE(result.injections.empty());
}

TEST(InjectorTest, CrashAtAnEventAndRestart) {
  const RunResult result =
      RunWith({"crash w0 when w0 request#5 restart 300ms"});
  EXPECT_EQ(Injections(result, "crash"), 1);
  EXPECT_EQ(Count(result, EventKind::kCrash, 0), 1);
  EXPECT_EQ(Count(result, EventKind::kWorkerStarted, 0), 2);
  EXPECT_GT(FailedCalls(result, absl::StatusCode::kUnavailable), 0);
  // It heals: w0 comes back, at another address.
  EXPECT_GT(FailedCalls(result, absl::StatusCode::kOk), 20);
}

// The event may come at any moment, on a fiber of the victim, on one of another
// worker, or on none.
TEST(InjectorTest, CrashAtAnyEventOfTheNetwork) {
  for (const char* event :
       {"w1 net.connect#1", "w0 net.accept#1", "w1 send.hello#1",
        "w1 send.hello#2", "w0 send.hello#1", "w1 send.descriptor#1",
        "w0 send.descriptor#2", "w1 send.payload#1", "w0 send.payload#2",
        "w1 net.deliver#1", "w0 net.deliver#2"}) {
    for (const char* victim : {"w0", "w1"}) {
      const std::string fault =
          std::string("crash ") + victim + " when " + event + " restart 200ms";
      SCOPED_TRACE(fault);
      const RunResult result = RunWith({fault});
      EXPECT_EQ(Injections(result, "crash"), 1);
      EXPECT_EQ(Count(result, EventKind::kRestart), 1);
    }
  }
}

TEST(InjectorTest, DroppedConnectThatKillsTheWorker) {
  const RunResult result =
      RunWith({"drop-connect w0 after 500ms", "crash w0 when w0 net.accept#4"});
  EXPECT_EQ(Injections(result, "crash"), 1);
  EXPECT_EQ(Injections(result, "drop-connect"), 0);
  // The victim died at the event of the dropped connect.
  const auto crash = std::find_if(
      result.events.begin(), result.events.end(),
      [](const Event& event) { return event.kind == EventKind::kCrash; });
  ASSERT_NE(crash, result.events.end());
  EXPECT_EQ(crash->time_ns, 500'000'000);
}

// The three deaths, as the caller meets them.
TEST(InjectorTest, KillAndPower) {
  const auto failure_after_ns = [](const RunResult& result, int64_t after_ns) {
    for (const Event& event : result.events) {
      if (event.kind == EventKind::kPipeFailed && event.node == 1 &&
          event.time_ns >= after_ns) {
        return event.time_ns - after_ns;
      }
    }
    return int64_t{-1};
  };
  const RunResult kill = RunWith({"kill w0 after 1s restart 300ms"});
  EXPECT_EQ(Injections(kill, "kill"), 1);
  EXPECT_EQ(Count(kill, EventKind::kWorkerStarted, 0), 2);
  // The kernel says at once that it is gone, and the caller goes on.
  EXPECT_GE(failure_after_ns(kill, 1'000'000'000), 0);
  EXPECT_LT(failure_after_ns(kill, 1'000'000'000), 100'000'000);
  EXPECT_GT(FailedCalls(kill, absl::StatusCode::kOk), 20);
  const RunResult power = RunWith({"power w0 after 1s"});
  EXPECT_EQ(Injections(power, "power"), 1);
  // Nobody says so: calls run into their deadlines.
  EXPECT_GT(FailedCalls(power, absl::StatusCode::kDeadlineExceeded), 2);
  // The connection stands at least until the keepalive's bound of 15 s.
  const int64_t failed_ns = failure_after_ns(power, 1'000'000'000);
  EXPECT_TRUE(failed_ns == -1 || failed_ns > 10'000'000'000) << failed_ns;
  const RunResult again = RunWith({"power w0 after 1s restart 300ms"});
  EXPECT_EQ(Count(again, EventKind::kWorkerStarted, 0), 2);
  EXPECT_GT(FailedCalls(again, absl::StatusCode::kOk), 15);
  const auto tells = [](const RunResult& result, const std::string& words) {
    const std::vector<std::string> story = TellStory(result, 1000);
    return std::any_of(
        story.begin(), story.end(),
        [&](const std::string& line) { return line.ends_with(words); });
  };
  EXPECT_TRUE(tells(kill, "IS KILLED"));
  EXPECT_TRUE(tells(power, "LOSES ITS POWER"));
}

TEST(InjectorTest, CrashForGood) {
  const RunResult result = RunWith({"crash w0 after 1s"});
  EXPECT_EQ(Count(result, EventKind::kWorkerStarted, 0), 1);
  EXPECT_GT(FailedCalls(result, absl::StatusCode::kUnavailable), 10);
}

TEST(InjectorTest, Pause) {
  const RunResult result = RunWith({"pause w0 after 1s for 1s"});
  EXPECT_EQ(Injections(result, "pause"), 1);
  EXPECT_GT(FailedCalls(result, absl::StatusCode::kDeadlineExceeded), 0);
  EXPECT_GT(Count(result, EventKind::kCallLateReply), 0);
}

TEST(InjectorTest, CutNow) {
  for (const std::string how : {"reset", "eof"}) {
    const RunResult result = RunWith({"cut w0-w1 when w0 request#3 " + how});
    EXPECT_EQ(Injections(result, "cut"), 1) << how;
    EXPECT_GT(FailedCalls(result, absl::StatusCode::kUnavailable), 0) << how;
    EXPECT_GT(FailedCalls(result, absl::StatusCode::kOk), 25) << how;
  }
}

TEST(InjectorTest, CutAtAnyByte) {
  for (int byte = 0; byte < 3000; byte += 97) {
    for (const std::string how : {" reset", " eof"}) {
      const RunResult result =
          RunWith({"cut w1>w0 byte " + std::to_string(byte) + how});
      EXPECT_EQ(Injections(result, "cut"), 1) << byte << how;
      EXPECT_EQ(Count(result, EventKind::kBreak), 1) << byte << how;
      EXPECT_GT(FailedCalls(result, absl::StatusCode::kOk), 25) << byte << how;
    }
  }
}

TEST(InjectorTest, RefuseAfterACut) {
  const RunResult result =
      RunWith({"cut w0-w1 after 1s reset", "refuse w0 after 1s for 500ms"});
  EXPECT_GT(Injections(result, "refuse"), 0);
  EXPECT_GT(Count(result, EventKind::kRefused), 0);
  EXPECT_GT(FailedCalls(result, absl::StatusCode::kOk), 15);
}

TEST(InjectorTest, AWorkerShortOfMemoryRefusesAndRecovers) {
  // The server refuses requests.
  const RunResult server = RunWith({"no-memory w0 after 1s for 1s"});
  EXPECT_GT(Injections(server, "no-memory"), 0);
  EXPECT_GT(FailedCalls(server, absl::StatusCode::kResourceExhausted), 1);
  EXPECT_GT(FailedCalls(server, absl::StatusCode::kOk), 15);
  // The caller makes no calls.
  const RunResult caller = RunWith({"no-memory w1 after 1s for 1s"});
  EXPECT_GT(Injections(caller, "no-memory"), 0);
  EXPECT_LT(Count(caller, EventKind::kCallStarted), 30);
  EXPECT_GT(FailedCalls(caller, absl::StatusCode::kOk), 15);
}

TEST(InjectorTest, HoldThatHeals) {
  const RunResult result = RunWith({"hold w0-w1 after 1s for 1s"});
  EXPECT_GT(Injections(result, "hold"), 0);
  EXPECT_GT(FailedCalls(result, absl::StatusCode::kDeadlineExceeded), 0);
  EXPECT_GT(Count(result, EventKind::kCallLateReply), 0);
}

TEST(InjectorTest, HoldOfOneDirection) {
  for (const char* fault :
       {"hold w0>w1 after 1s for 1s", "hold w1>w0 after 1s for 1s"}) {
    const RunResult result = RunWith({fault});
    EXPECT_GT(Injections(result, "hold"), 0) << fault;
    EXPECT_GT(FailedCalls(result, absl::StatusCode::kDeadlineExceeded), 0);
    // Requests arrive late, or replies to requests that arrived in time.
    int64_t requests = 0;
    for (const Event& event : result.events) {
      if (event.kind == EventKind::kRequest && event.time_ns > 1'010'000'000 &&
          event.time_ns < 1'990'000'000) {
        ++requests;
      }
    }
    EXPECT_EQ(requests > 0, std::string_view(fault).starts_with("hold w0"));
  }
}

TEST(InjectorTest, AGroupMayBeCutOff) {
  const RunResult result = RunWith({"partition w0,w1-w1,w0 after 1s for ever"});
  EXPECT_GT(Injections(result, "partition"), 0);
  EXPECT_TRUE(result.never_struck.empty());
}

TEST(InjectorTest, Swizzle) {
  const RunResult result = RunWith({"swizzle w1 after 1s for 1s"});
  EXPECT_GT(Injections(result, "swizzle"), 0);
  EXPECT_EQ(Injections(result, "hold"), 0);
  EXPECT_TRUE(result.never_struck.empty());
  EXPECT_GT(FailedCalls(result, absl::StatusCode::kDeadlineExceeded), 0);
  EXPECT_GT(FailedCalls(result, absl::StatusCode::kOk), 15);
}

TEST(InjectorTest, DelayMakesRepliesLate) {
  // Together, the request and the reply take longer than a call's timeout.
  const RunResult result = RunWith({"delay w0-w1 300ms after 1s for 1s"});
  EXPECT_GT(Injections(result, "delay"), 0);
  EXPECT_GT(FailedCalls(result, absl::StatusCode::kDeadlineExceeded), 0);
  EXPECT_GT(Count(result, EventKind::kCallLateReply), 0);
  EXPECT_GT(FailedCalls(result, absl::StatusCode::kOk), 20);
}

TEST(InjectorTest, Partition) {
  const RunResult result = RunWith({"partition w0-w1 after 1s for ever"});
  EXPECT_GT(Injections(result, "partition"), 0);
  EXPECT_GT(FailedCalls(result, absl::StatusCode::kDeadlineExceeded), 3);
  EXPECT_EQ(Count(result, EventKind::kCallLateReply), 0);
}

// Older replay files have the older words, and must keep their hashes.
TEST(InjectorTest, OlderWordsGiveTheSameRun) {
  const std::pair<const char*, const char*> lines[] = {
      {"silence w0-w1 after 1s for 1s", "hold w0-w1 after 1s for 1s"},
      {"silence w0-w1 after 1s for ever", "partition w0-w1 after 1s for ever"},
      {"knock w0 after 500ms", "drop-connect w0 after 500ms"}};
  for (const auto& [older, present] : lines) {
    const RunResult result = RunWith({older});
    EXPECT_EQ(result.hash, RunWith({present}).hash) << older;
    const std::string word(present, std::string_view(present).find(' '));
    EXPECT_GT(Injections(result, word), 0) << older;
    // The trace has the older word, as it always had; the story the new one.
    const auto fault = std::find_if(
        result.events.begin(), result.events.end(),
        [](const Event& event) { return event.kind == EventKind::kFault; });
    ASSERT_NE(fault, result.events.end()) << older;
    EXPECT_TRUE(std::string_view(older).starts_with(fault->text + " "));
    const std::vector<std::string> story = TellStory(result, 1000);
    EXPECT_TRUE(std::any_of(story.begin(), story.end(),
                            [&](const std::string& line) {
                              return line.find("FAULT " + word + " ") !=
                                     std::string::npos;
                            }))
        << older;
  }
}

TEST(InjectorTest, DroppedConnectKillsTheListenerAndItComesBack) {
  const RunResult result =
      RunWith({"drop-connect w0 after 500ms", "cut w0-w1 after 1s reset"});
  EXPECT_EQ(Injections(result, "drop-connect"), 1);
  EXPECT_EQ(Count(result, EventKind::kListenerFailed, 0), 1);
  EXPECT_EQ(Count(result, EventKind::kListening, 0), 2);
  EXPECT_GT(FailedCalls(result, absl::StatusCode::kOk), 25);
}

TEST(InjectorTest, StoreOutage) {
  const RunResult result = RunWith({"store-outage all after 0s for 2s"});
  EXPECT_GT(Injections(result, "store-outage"), 0);
  EXPECT_EQ(Count(result, EventKind::kCallStarted), 30);
}

TEST(InjectorTest, StoreDelay) {
  const RunResult slow = RunWith({"store-delay 700ms after 0s for 20s"});
  EXPECT_GT(Injections(slow, "store-delay"), 0);
  EXPECT_GT(slow.sim_seconds, RunWith({}).sim_seconds + 1);
}

// The group starts and works all the same.
TEST(InjectorTest, StoreOperationsThatFailMayHaveTakenEffect) {
  for (const std::string fault :
       {"store-lost-reply all after 0s for 50ms reset",
        "store-lost-reply w1 when w1 store#3 for 1us silent",
        "store-late-effect w0 20ms when w0 store#2 for 30ms"}) {
    const RunResult result = RunWith({fault});
    EXPECT_GT(Injections(result, fault.substr(0, fault.find(' '))), 0) << fault;
    EXPECT_EQ(Count(result, EventKind::kCallStarted), 30) << fault;
    EXPECT_TRUE(result.never_struck.empty()) << fault;
    const bool is_late = fault.starts_with("store-late-effect");
    EXPECT_EQ(std::any_of(result.events.begin(), result.events.end(),
                          [](const Event& event) {
                            return event.kind == EventKind::kStore &&
                                   event.text.starts_with("late ");
                          }),
              is_late)
        << fault;
  }
}

TEST(InjectorTest, SlowKeysOfTheStore) {
  const RunResult slow = RunWith({"store-slow-keys 700ms after 0s for 20s"});
  EXPECT_GT(Injections(slow, "store-slow-keys"), 0);
  EXPECT_GT(slow.sim_seconds, RunWith({}).sim_seconds + 0.5);
}

// What the first workers have written is lost, and with it the group.
TEST(InjectorTest, StoreRestartThatLosesAll) {
  const RunResult result =
      RunWith({"store-restart 1h when w1 listening for 500ms"});
  EXPECT_GT(Injections(result, "store-restart"), 0);
  EXPECT_TRUE(result.never_struck.empty());
}

// A caller's timeout is by its own clock, whatever the time of day is.
TEST(InjectorTest, ClocksThatAreWrongFromTheBeginning) {
  const RunResult without = RunWith({});
  for (const std::string fault : {"clock-jump w1 1h after 0s behind",
                                  "clock-jump w0 1h after 0s ahead"}) {
    const RunResult result = RunWith({fault});
    EXPECT_EQ(Injections(result, "clock-jump"), 1) << fault;
    EXPECT_TRUE(result.never_struck.empty()) << fault;
    EXPECT_EQ(FailedCalls(result, absl::StatusCode::kOk), 30) << fault;
    EXPECT_EQ(result.sim_seconds, without.sim_seconds) << fault;
  }
  // Half of w1's seconds are too short, so all of its pauses are.
  const RunResult fast = RunWith({"clock-drift w1 1s after 0s for ever fast"});
  EXPECT_EQ(Injections(fast, "clock-drift"), 1);
  EXPECT_EQ(FailedCalls(fast, absl::StatusCode::kOk), 30);
  int64_t ended_ns = 0;
  for (const Event& event : fast.events) {
    if (event.kind == EventKind::kWorkerEnded && event.node == 1) {
      ended_ns = event.time_ns;
    }
  }
  EXPECT_GT(ended_ns, 1'000'000'000);
  EXPECT_LT(ended_ns, 2'500'000'000);
}

// The agent never looks at the time of day again.
TEST(InjectorTest, AClockJumpThatNobodySeesDoesNotStrike) {
  const std::string fault = "clock-jump w1 1h after 1s behind";
  const RunResult result = RunWith({fault});
  EXPECT_EQ(Injections(result, "clock-jump"), 0);
  EXPECT_EQ(result.never_struck, std::vector<std::string>{fault});
  EXPECT_EQ(FailedCalls(result, absl::StatusCode::kOk), 30);
}

// The time of day is seen by who starts again.
TEST(InjectorTest, AClockJumpsAndItsWorkerIsRestarted) {
  const RunResult result = RunWith({"clock-jump w0 1h after 500ms ahead",
                                    "crash w0 after 1s restart 200ms"});
  EXPECT_EQ(Injections(result, "clock-jump"), 1);
  EXPECT_TRUE(result.never_struck.empty());
  EXPECT_GT(FailedCalls(result, absl::StatusCode::kOk), 15);
}

TEST(InjectorTest, ASlowWorker) {
  const RunResult result = RunWith({"slow w0 50ms after 1s for 1s"});
  EXPECT_GT(Injections(result, "slow"), 0);
  EXPECT_TRUE(result.never_struck.empty());
  EXPECT_GT(FailedCalls(result, absl::StatusCode::kDeadlineExceeded), 0);
  EXPECT_GT(FailedCalls(result, absl::StatusCode::kOk), 15);
}

// Such faults moved the clock to their time, where the run was over its time
// limit, or killed workers that had ended well.
TEST(InjectorTest, FaultsAfterTheRunsEndDoNotStrike) {
  const RunResult without = RunWith({});
  const std::vector<std::string> faults = {
      "crash w0 after 1000s", "crash w1 after 20s restart 1s",
      "pause w0 after 20s for 1s", "hold w0-w1 after 1000s for 2s"};
  const RunResult result = RunWith(faults);
  EXPECT_EQ(result.hash, without.hash);
  EXPECT_EQ(result.sim_seconds, without.sim_seconds);
  EXPECT_TRUE(result.injections.empty());
  EXPECT_EQ(result.never_struck, faults);
}

// w1 ends long before w0, as a process that has exited and that no signal
// reaches.
TEST(InjectorTest, AWorkerThatHasEndedCannotBeHit) {
  const RunResult without = RunWith({});
  int64_t ended_ns = 0;
  for (const Event& event : without.events) {
    if (event.kind == EventKind::kWorkerEnded && event.node == 1) {
      ended_ns = event.time_ns;
    }
  }
  ASSERT_GT(ended_ns, 0);
  const std::string after = FormatNanoseconds(ended_ns + 1'000'000);
  for (const std::string& fault : {"crash w1 after " + after + " restart 100ms",
                                   "pause w1 after " + after + " for ever",
                                   "no-memory w1 after " + after + " for 1s"}) {
    const RunResult result = RunWith({fault});
    EXPECT_EQ(Count(result, EventKind::kWorkerStarted, 1), 1) << fault;
    EXPECT_EQ(result.never_struck, std::vector<std::string>{fault});
  }
}

// A restart that is still to come keeps the run going, when nobody else lives.
TEST(InjectorTest, TheLastWorkerMayBeRestarted) {
  const RunResult result =
      RunWith({"crash w0 after 100ms", "crash w1 after 200ms restart 10s",
               "crash w1 after 5s"});
  EXPECT_EQ(Count(result, EventKind::kWorkerStarted, 1), 2);
  EXPECT_EQ(result.never_struck, std::vector<std::string>{"crash w1 after 5s"});
}

// Of two cuts, each in a direction of its own, one comes too late.
TEST(InjectorTest, ACutOfOneDirectionIsNotThatOfTheOther) {
  const std::string other = "cut w0>w1 byte 1000000000 reset";
  const RunResult result = RunWith({"cut w1>w0 byte 5000 reset", other});
  EXPECT_EQ(Injections(result, "cut"), 1);
  EXPECT_EQ(result.never_struck, std::vector<std::string>{other});
}

TEST(InjectorTest, SaysWhichOfSeveralFaultsOfAKindStruck) {
  const std::string early = "hold w0-w1 after 0s for 1us";
  const std::string late = "hold w0-w1 after 1s for 200ms";
  const std::string other = "cut w0>w1 byte 1000000000 reset";
  const RunResult result =
      RunWith({early, late, other, "cut w0-w1 after 2s eof"});
  EXPECT_EQ(result.never_struck, (std::vector<std::string>{early, other}));
}

}  // namespace
}  // namespace reprise

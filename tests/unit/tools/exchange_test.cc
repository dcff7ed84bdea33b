// Times and traces are exchanged through a store.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/runtime/runtime.h"
#include "agent/store/memory_store.h"
#include "gtest/gtest.h"
#include "tools/processes/clock_exchange.h"
#include "tools/processes/trace_exchange.h"

namespace reprise {
namespace {

absl::Time In(absl::Duration duration) {
  return RealRuntime().Now() + duration;
}

TEST(ClockExchangeTest, OneClockIsWithinTheErrorOfItself) {
  const std::shared_ptr<Store> store = MakeMemoryStore(RealRuntime());
  std::vector<std::unique_ptr<Thread>> threads;
  threads.push_back(RealRuntime().StartThread("w0", [&] {
    EXPECT_TRUE(AnswerClocks(*store, "p", 3, In(absl::Seconds(60))).ok());
  }));
  for (const int rank : {1, 2}) {
    threads.push_back(RealRuntime().StartThread("worker", [&, rank] {
      const auto clock = AskClock(*store, "p", rank, In(absl::Seconds(60)));
      ASSERT_TRUE(clock.ok()) << clock.status();
      EXPECT_LE(std::abs(clock->offset_ns), clock->error_ns);
      EXPECT_LT(clock->error_ns, absl::ToInt64Nanoseconds(absl::Seconds(60)));
    }));
  }
  for (const std::unique_ptr<Thread>& thread : threads) thread->Join();
}

TEST(ClockExchangeTest, SaysWhoDidNotCome) {
  const std::shared_ptr<Store> store = MakeMemoryStore(RealRuntime());
  const absl::Status status =
      AnswerClocks(*store, "p", 2, In(absl::Milliseconds(10)));
  EXPECT_TRUE(absl::IsDeadlineExceeded(status));
  EXPECT_NE(status.message().find("worker 1 did not come"),
            absl::string_view::npos)
      << status;
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      AskClock(*store, "p", 1, In(absl::Milliseconds(10))).status()));
}

TEST(ClockExchangeTest, NonsenseInTheStoreIsAnError) {
  for (const char* answer : {"", "soon", "-1", "99999999999999999999"}) {
    const std::shared_ptr<Store> store = MakeMemoryStore(RealRuntime());
    ASSERT_TRUE(
        store->Set("p/clock/1/0/answer", answer, In(absl::Seconds(60))).ok());
    EXPECT_TRUE(absl::IsInvalidArgument(
        AskClock(*store, "p", 1, In(absl::Seconds(60))).status()))
        << answer;
  }
}

TEST(TraceExchangeTest, BringsALongTraceWhole) {
  const std::shared_ptr<Store> store = MakeMemoryStore(RealRuntime());
  WorkerTrace sent;
  sent.error_ns = 1234;
  for (int i = 0; i < 20000; ++i) {
    sent.events.push_back({i, 1, EventKind::kNote, 0, 0, 0, 0,
                           absl::StrCat("line ", i, "\n\x01 \xff")});
  }
  ASSERT_TRUE(SendTrace(*store, "p", 1, sent, In(absl::Seconds(60))).ok());
  const auto got = ReceiveTrace(*store, "p", 1, In(absl::Seconds(60)));
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->error_ns, 1234);
  ASSERT_EQ(got->events.size(), sent.events.size());
  for (size_t i = 0; i < sent.events.size(); ++i) {
    ASSERT_EQ(ToString(got->events[i]), ToString(sent.events[i]));
  }
  // And nothing stays behind.
  EXPECT_TRUE(
      absl::IsNotFound(store->TryGet("p/1/0", In(absl::Seconds(60))).status()));
  EXPECT_TRUE(absl::IsNotFound(
      store->TryGet("p/1/end", In(absl::Seconds(60))).status()));
}

TEST(TraceExchangeTest, WhatIsNoTraceIsAnError) {
  const std::string line =
      ToString(Event{1, 2, EventKind::kNote, 0, 0, 0, 0, "of w2"}) + "\n";
  // Whole lines of w1, more than fit into one piece.
  std::string large;
  while (large.size() <= size_t{256} << 10) {
    absl::StrAppend(
        &large, ToString(Event{1, 1, EventKind::kNote, 0, 0, 0, 0, ""}), "\n");
  }
  for (const auto& [end, piece] :
       std::vector<std::pair<std::string, std::string>>{
           {"1 0", "no event\n"},
           {"1 0", line},  // of another worker
           {"1 0", large},
           {"x 0", ""},
           {"1", ""},
           {"-1 0", ""},
           {"1 -1", ""},
           {"99999999 0", ""}}) {
    const std::shared_ptr<Store> store = MakeMemoryStore(RealRuntime());
    ASSERT_TRUE(store->Set("p/1/0", piece, In(absl::Seconds(60))).ok());
    ASSERT_TRUE(store->Set("p/1/end", end, In(absl::Seconds(60))).ok());
    EXPECT_TRUE(absl::IsInvalidArgument(
        ReceiveTrace(*store, "p", 1, In(absl::Seconds(60))).status()))
        << end << " " << piece.substr(0, 40);
  }
}

}  // namespace
}  // namespace reprise

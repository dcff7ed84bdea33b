// Future and Promise without an agent.

#include "agent/future.h"

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "agent/runtime/runtime.h"
#include "gtest/gtest.h"

namespace reprise {
namespace {

using Task = absl::AnyInvocable<void()>;

Message Text(std::string payload) {
  return Message{MessageType::kScriptRet, std::move(payload), {}};
}

TEST(FutureTest, WaitsUntilItsDeadlineOrCompletion) {
  Promise promise(RealRuntime(), nullptr, nullptr);
  const Future future = promise.future();
  EXPECT_FALSE(future.done());
  EXPECT_FALSE(future.Wait(RealRuntime().Now() + absl::Milliseconds(1)));
  EXPECT_FALSE(future.Wait(absl::InfinitePast()));
  const std::unique_ptr<Thread> waiter =
      RealRuntime().StartThread("waiter", [future] {
        EXPECT_TRUE(future.Wait());
        EXPECT_EQ(future.result()->payload, "x");
      });
  EXPECT_TRUE(promise.Complete(Text("x")));
  waiter->Join();
  EXPECT_TRUE(future.done());
  EXPECT_TRUE(future.Wait(absl::InfinitePast()));
}

TEST(FutureTest, CompletesOnce) {
  Promise promise(RealRuntime(), nullptr, nullptr);
  int after = 0;
  EXPECT_TRUE(promise.Complete(Text("first"), [&] { ++after; }));
  EXPECT_FALSE(promise.Complete(Text("second"), [&] { ++after; }));
  EXPECT_EQ(after, 2);
  EXPECT_EQ(promise.future().result()->payload, "first");
}

TEST(FutureTest, CallbacksRunOnTheExecutorAndThenTheRest) {
  std::vector<Task> queue;
  auto executor = std::make_shared<Promise::Executor>(
      [&](Task task) { queue.push_back(std::move(task)); });
  Promise promise(RealRuntime(), executor, nullptr);
  std::string order;
  promise.future().Then(
      [&](const Future::Result& result) { order += result->payload + "1"; });
  promise.future().Then([&](const Future::Result&) {
    order += "2";
    throw std::runtime_error("a callback may throw");
  });
  promise.future().Then([&](const Future::Result&) { order += "3"; });
  EXPECT_TRUE(promise.Complete(Text("x"), [&] { order += "after"; }));
  EXPECT_EQ(order, "");
  ASSERT_EQ(queue.size(), 1u);
  queue[0]();
  EXPECT_EQ(order, "x123after");
  // The future is done, so the callback runs at once and here.
  promise.future().Then([&](const Future::Result&) { order += "4"; });
  EXPECT_EQ(order, "x123after4");
}

TEST(FutureTest, CancelAsksTheOwnerOnce) {
  int asked = 0;
  Promise promise(RealRuntime(), nullptr, [&] { ++asked; });
  const Future future = promise.future();
  future.Cancel();
  future.Cancel();
  EXPECT_EQ(asked, 1);
  EXPECT_FALSE(future.done());
  EXPECT_TRUE(promise.Complete(absl::CancelledError("gone")));
  future.Cancel();
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(future.status(), absl::CancelledError("gone"));
}

TEST(FutureTest, CancelWithoutAnOwner) {
  Promise promise(RealRuntime(), nullptr, nullptr);
  int called = 0;
  promise.future().Then([&](const Future::Result& result) {
    EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
    ++called;
  });
  promise.future().Cancel();
  EXPECT_EQ(called, 1);
  int after = 0;
  EXPECT_FALSE(promise.Complete(Text("late"), [&] { ++after; }));
  EXPECT_EQ(after, 1);
  EXPECT_EQ(promise.future().status().code(), absl::StatusCode::kCancelled);
}

TEST(FutureTest, ReadyIsDone) {
  const Future future =
      Future::Ready(RealRuntime(), absl::NotFoundError("none"));
  EXPECT_TRUE(future.done());
  EXPECT_EQ(future.status(), absl::NotFoundError("none"));
  future.Cancel();
  EXPECT_EQ(future.status(), absl::NotFoundError("none"));
}

TEST(FutureTest, CallbacksRunOnAnExecutorOfOnesChoice) {
  std::vector<Task> queue;
  const Future::Executor executor = [&](Task task) {
    queue.push_back(std::move(task));
  };
  std::string order;
  const auto note = [&](const Future::Result& result) {
    order += result->payload;
  };
  {
    Promise promise(RealRuntime(), nullptr, nullptr);
    promise.future().Then(executor, note);
    EXPECT_EQ(queue.size(), 0u);
    promise.Complete(Text("a"));
    EXPECT_EQ(queue.size(), 1u);
    promise.future().Then(executor, note);
    promise.future().Then(executor, [](const Future::Result&) {
      throw std::runtime_error("a callback may throw");
    });
  }
  // The tasks keep the result.
  EXPECT_EQ(order, "");
  ASSERT_EQ(queue.size(), 3u);
  for (Task& task : queue) task();
  EXPECT_EQ(order, "aa");
}

std::vector<Future> FuturesOf(std::vector<Promise>& promises, int count) {
  std::vector<Future> futures;
  for (int i = 0; i < count; ++i) {
    promises.emplace_back(RealRuntime(), nullptr, nullptr);
    futures.push_back(promises.back().future());
  }
  return futures;
}

TEST(WhenAllTest, IsDoneWhenAllAre) {
  std::vector<Promise> promises;
  const Future all = WhenAll(RealRuntime(), FuturesOf(promises, 3));
  promises[1].Complete(Text("b"));
  promises[0].Complete(Text("a"));
  EXPECT_FALSE(all.done());
  promises[2].Complete(Text("c"));
  ASSERT_TRUE(all.done());
  EXPECT_TRUE(all.status().ok());
  EXPECT_TRUE(WhenAll(RealRuntime(), {}).status().ok());
}

TEST(WhenAllTest, NamesTheFirstFailureAndCancelsAll) {
  std::vector<Promise> promises;
  const std::vector<Future> futures = FuturesOf(promises, 3);
  const Future all = WhenAll(RealRuntime(), futures);
  promises[2].Complete(absl::NotFoundError("third"));
  promises[1].Complete(absl::DataLossError("second"));
  EXPECT_FALSE(all.done());
  all.Cancel();
  ASSERT_TRUE(all.done());
  EXPECT_TRUE(absl::IsCancelled(futures[0].status()));
  EXPECT_TRUE(absl::IsCancelled(all.status()));

  std::vector<Promise> others;
  const Future failed = WhenAll(RealRuntime(), FuturesOf(others, 2));
  others[1].Complete(absl::NotFoundError("second"));
  others[0].Complete(Text("x"));
  EXPECT_EQ(failed.status(), absl::NotFoundError("second"));
}

TEST(WhenAnyTest, TakesTheFirstSuccessOrTheLastFailure) {
  std::vector<Promise> promises;
  const Future any = WhenAny(RealRuntime(), FuturesOf(promises, 3));
  promises[0].Complete(absl::NotFoundError("first"));
  EXPECT_FALSE(any.done());
  promises[2].Complete(Text("c"));
  ASSERT_TRUE(any.done());
  EXPECT_EQ(any.result()->payload, "c");
  promises[1].Complete(Text("b"));
  EXPECT_EQ(any.result()->payload, "c");

  std::vector<Promise> others;
  const Future none = WhenAny(RealRuntime(), FuturesOf(others, 2));
  others[1].Complete(absl::NotFoundError("second"));
  others[0].Complete(absl::DataLossError("first"));
  EXPECT_EQ(none.status(), absl::DataLossError("first"));
  EXPECT_TRUE(absl::IsInvalidArgument(WhenAny(RealRuntime(), {}).status()));
}

}  // namespace
}  // namespace reprise

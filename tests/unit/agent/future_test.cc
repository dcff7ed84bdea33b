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
  // Done: at once, here.
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

}  // namespace
}  // namespace reprise

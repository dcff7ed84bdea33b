#include "agent/server/idempotency.h"

#include <cstdint>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"

namespace reprise::testing {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kMemory = 17;

CallExtras Extras(const std::string& key, uint64_t number, uint64_t attempt = 0,
                  uint64_t instance = 1) {
  CallExtras extras;
  extras.idempotency_key = key;
  extras.caller_instance = instance;
  extras.key_number = number;
  extras.memory = number == 0 ? 0 : kMemory;
  extras.attempt = attempt;
  return extras;
}

class IdempotencyTest : public ::testing::Test {
 protected:
  static IdempotentCalls::Options Small() {
    return {.max_calls_per_caller = 2,
            .max_calls = 4,
            .max_bytes_per_caller = 1000,
            .max_bytes = 2000,
            .memory = absl::Hours(1),
            .id = kMemory};
  }

  // "run", "answer", "wait", or the code of the refusal.
  std::string Call(const std::string& caller, const CallExtras& extras,
                   size_t reply_bytes = 1, bool remember = true) {
    const auto begun = calls_.Begin(caller, extras, {});
    if (!begun.ok()) {
      text_ = std::string(begun.status().message());
      return absl::StatusCodeToString(begun.status().code());
    }
    if (begun->run == nullptr) {
      return begun->answer.encoded == nullptr ? "wait" : "answer";
    }
    Message reply;
    reply.type = MessageType::kScriptRet;
    reply.payload = std::string(reply_bytes, 'x');
    calls_.Finish(begun->run, {*Encode(std::move(reply), 1), nullptr},
                  remember);
    return "run";
  }

  IdempotentCalls calls_{RealRuntime(), Small()};
  std::string text_;
};

TEST_F(IdempotencyTest, AForgottenKeyIsRefused) {
  EXPECT_EQ(Call("w1", Extras("a", 1)), "run");
  EXPECT_EQ(Call("w1", Extras("a", 1, 1)), "answer");
  EXPECT_EQ(Call("w1", Extras("b", 2)), "run");
  EXPECT_EQ(Call("w1", Extras("c", 3)), "run");
  EXPECT_EQ(Call("w1", Extras("a", 1, 2)), "FAILED_PRECONDITION");
  EXPECT_THAT(text_, HasSubstr("may have run before"));
  EXPECT_EQ(Call("w1", Extras("c", 3, 1)), "answer");
  // Another agent of this name has forgotten nothing yet.
  EXPECT_EQ(Call("w1", Extras("a", 1, 1, 2)), "run");
}

TEST_F(IdempotencyTest, NobodyPushesTheKeysOfAnotherOut) {
  EXPECT_EQ(Call("w1", Extras("pay", 1)), "run");
  for (uint64_t i = 1; i <= 100; ++i) {
    EXPECT_EQ(Call("w2", Extras(absl::StrCat(i), i, 0, 2)), "run");
  }
  EXPECT_EQ(Call("w1", Extras("pay", 1, 1)), "answer");
  // Neither do many other callers: the one with the most calls loses.
  for (uint64_t i = 3; i < 5; ++i) {
    EXPECT_EQ(Call(absl::StrCat("w", i), Extras("x", 1, 0, i)), "run");
  }
  EXPECT_EQ(Call("w1", Extras("pay", 1, 2)), "answer");
  EXPECT_EQ(Call("w2", Extras("99", 99, 1, 2)), "FAILED_PRECONDITION");
  EXPECT_EQ(Call("w2", Extras("100", 100, 1, 2)), "answer");
}

TEST_F(IdempotencyTest, RepliesAreDroppedBeforeKeys) {
  EXPECT_EQ(Call("w1", Extras("a", 1), 600), "run");
  EXPECT_EQ(Call("w1", Extras("b", 2), 600), "run");
  EXPECT_EQ(Call("w1", Extras("a", 1, 1)), "FAILED_PRECONDITION");
  EXPECT_THAT(text_, HasSubstr("ran, and its reply is no longer kept"));
  EXPECT_EQ(Call("w1", Extras("b", 2, 1)), "answer");
  // The caller with the most bytes loses.
  EXPECT_EQ(Call("w2", Extras("a", 1, 0, 2), 900), "run");
  EXPECT_EQ(Call("w3", Extras("a", 1, 0, 3), 300), "run");
  EXPECT_EQ(Call("w4", Extras("a", 1, 0, 4), 300), "run");
  EXPECT_EQ(Call("w2", Extras("a", 1, 1, 2)), "FAILED_PRECONDITION");
  EXPECT_EQ(Call("w1", Extras("b", 2, 2)), "answer");
}

TEST_F(IdempotencyTest, AKeyOfAnotherMemoryIsRefused) {
  CallExtras extras = Extras("a", 1);
  extras.memory = kMemory + 1;
  EXPECT_EQ(Call("w1", extras), "UNAVAILABLE");  // surely it did not run
  extras.attempt = 1;
  EXPECT_EQ(Call("w1", extras), "FAILED_PRECONDITION");
  EXPECT_THAT(text_, HasSubstr("another agent of this name"));
}

TEST_F(IdempotencyTest, WhatAHandlerDidNotDoRunsAgain) {
  EXPECT_EQ(Call("w1", Extras("a", 1), 1, /*remember=*/false), "run");
  EXPECT_EQ(calls_.size(), 0);
  EXPECT_EQ(Call("w1", Extras("a", 1, 1)), "run");
  EXPECT_EQ(Call("w1", Extras("a", 1, 2)), "answer");
}

TEST_F(IdempotencyTest, TooManyThatRunAreRefused) {
  const auto run = [&](const std::string& caller, uint64_t number) {
    const auto begun =
        calls_.Begin(caller, Extras(absl::StrCat(number), number), {});
    return begun.ok() ? "run" : std::string(begun.status().message());
  };
  EXPECT_EQ(run("w1", 1), "run");
  EXPECT_EQ(run("w1", 2), "run");
  EXPECT_THAT(run("w1", 3), HasSubstr("2 calls of w1 with idempotency keys"));
  EXPECT_EQ(run("w2", 4), "run");
  EXPECT_EQ(run("w3", 5), "run");
  EXPECT_THAT(run("w4", 6), HasSubstr("4 calls with idempotency keys run"));
}

TEST_F(IdempotencyTest, CallersThatDoNotNumberTheirKeysAreServed) {
  EXPECT_EQ(Call("w1", Extras("a", 0)), "run");
  EXPECT_EQ(Call("w1", Extras("a", 0)), "answer");
  EXPECT_EQ(Call("w1", Extras("b", 0)), "run");
  EXPECT_EQ(Call("w1", Extras("c", 0)), "run");
  EXPECT_EQ(Call("w1", Extras("a", 0)), "run");
}

TEST_F(IdempotencyTest, AStoppedServerCancelsRuns) {
  const auto begun = calls_.Begin("w1", Extras("a", 1), {});
  ASSERT_TRUE(begun.ok());
  calls_.Finish(begun->run, {}, true);  // drops the attempt, which has no pipe
  EXPECT_FALSE(begun->run->IsCancelled(1, absl::InfiniteFuture()));
  calls_.Stop();
  EXPECT_TRUE(begun->run->IsCancelled(1, absl::InfiniteFuture()));
}

}  // namespace
}  // namespace reprise::testing

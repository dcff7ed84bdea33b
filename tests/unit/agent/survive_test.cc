// Retries, idempotency, cancellation, backpressure and signs of life, over real
// transports; and what a worker that knows none of it is sent.

#include <atomic>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "agent/agent.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"
#include "tests/unit/agent/hooked_store.h"

namespace reprise::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Text(const Future& call) {
  EXPECT_TRUE(call.Wait(Soon()));
  return std::string(call.status().message());
}

bool Eventually(const std::function<bool()>& holds) {
  const absl::Time deadline = Soon();
  while (!holds()) {
    if (RealRuntime().Now() > deadline) return false;
    RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(1));
  }
  return true;
}

TEST(RetryTest, OptionsAreChecked) {
  Cluster cluster;
  cluster.Start(1, Echo());
  const auto text = [&](RetryOptions retry) {
    return Text(cluster[0].SendWithRetries("w0", Request("x"), {}, retry));
  };
  EXPECT_EQ(text({.max_retries = -1}), "maxRetries cannot be negative.");
  EXPECT_EQ(text({.backoff = 0.99}),
            "maxRetries cannot be exponentially decaying.");
  EXPECT_EQ(text({.backoff = std::numeric_limits<double>::quiet_NaN()}),
            "maxRetries cannot be exponentially decaying.");
  EXPECT_EQ(text({.retry_duration = -absl::Milliseconds(1)}),
            "rpcRetryDuration cannot be negative.");
}

TEST(RetryTest, GivesUpWithPyTorchsText) {
  Gate gate;
  Cluster cluster;
  cluster.Start(2, EchoAfter(gate));
  const absl::Time start = RealRuntime().Now();
  const Future call = cluster[0].SendWithRetries(
      "w1", Request("x"), {.timeout = absl::Milliseconds(5)},
      {.max_retries = 2,
       .retry_duration = absl::Milliseconds(10),
       .backoff = 20,
       .jitter = 0});
  EXPECT_THAT(Text(call),
              StartsWith("The RPC has not succeeded after the specified number "
                         "of max retries (2)."));
  EXPECT_TRUE(absl::IsDeadlineExceeded(call.status()));
  EXPECT_EQ(cluster[0].GetMetrics()["agent.retries"], 2);
  // Pauses of 10 and 200 ms.
  EXPECT_GE(RealRuntime().Now() - start, absl::Milliseconds(210));
  gate.Open();
}

TEST(RetryTest, AnErrorOfTheHandlerIsTheAnswer) {
  std::atomic<int> runs = 0;
  Cluster cluster;
  cluster.Start(2, Blocking([&](const Message&,
                                const RequestInfo&) -> absl::StatusOr<Message> {
                  ++runs;
                  return absl::UnavailableError("go away");
                }));
  EXPECT_THAT(Text(cluster[0].SendWithRetries("w1", Request("x"))),
              HasSubstr("go away"));
  EXPECT_EQ(runs, 1);
}

TEST(IdempotencyTest, RunsOnceAndAnswersAll) {
  std::atomic<int> runs = 0;
  Gate gate;
  Cluster cluster;
  cluster.Start(2, Blocking([&](Message request,
                                const RequestInfo&) -> absl::StatusOr<Message> {
                  ++runs;
                  gate.Wait();
                  request.type = MessageType::kScriptRet;
                  return request;
                }));
  std::vector<Future> calls;
  for (int i = 0; i < 5; ++i) {
    calls.push_back(
        cluster[0].Send("w1", Request("x"), {.idempotency_key = "k"}));
  }
  // All have come, and four of them wait for the one that runs.
  EXPECT_TRUE(Eventually([&] {
    return absl::StrContains(cluster[1].GetPrometheusText(),
                             "reprise_server_requests_total{worker=\"w1\",peer="
                             "\"w0\"} 5\n") &&
           cluster[1].GetMetrics()["agent.server_active_calls"] == 1;
  }));
  gate.Open();
  for (const Future& call : calls) EXPECT_EQ(Text(call), "");
  calls.push_back(
      cluster[0].Send("w1", Request("y"), {.idempotency_key = "k"}));
  EXPECT_EQ(Text(calls.back()), "");
  EXPECT_EQ(calls.back().result()->payload, "x");
  EXPECT_EQ(runs, 1);
  EXPECT_EQ(Text(cluster[0].Send("w1", Request("z"), {.idempotency_key = "l"})),
            "");
  EXPECT_EQ(runs, 2);
}

TEST(IdempotencyTest, WhatIsForgottenAndWhatIsNot) {
  std::atomic<int> runs = 0;
  Cluster cluster;
  cluster.Start(2,
                Blocking([&](Message request,
                             const RequestInfo&) -> absl::StatusOr<Message> {
                  ++runs;
                  request.type = MessageType::kScriptRet;
                  return request;
                }),
                [](AgentOptions& options) {
                  options.max_idempotent_calls = 2;
                  options.max_idempotent_bytes = 1000;
                });
  const auto call = [&](const std::string& key, size_t bytes) {
    return Text(cluster[0].Send("w1", Request(std::string(bytes, 'x')),
                                {.idempotency_key = key}));
  };
  EXPECT_EQ(call("large", 2000), "");
  EXPECT_THAT(call("large", 2000), HasSubstr("its reply is no longer kept"));
  EXPECT_EQ(runs, 1);
  EXPECT_EQ(call("a", 1), "");
  EXPECT_EQ(call("b", 1), "");
  EXPECT_EQ(runs, 3);
  EXPECT_EQ(call("b", 1), "");
  EXPECT_EQ(runs, 3);
  EXPECT_THAT(call("large", 1), HasSubstr("may have run before"));
  EXPECT_EQ(runs, 3);
}

TEST(IdempotencyTest, NotTowardsAStockWorker) {
  Cluster cluster(StockStore());
  cluster.Start(2, Echo());
  const Future call =
      cluster[0].Send("w1", Request("x"), {.idempotency_key = "k"});
  EXPECT_THAT(Text(call), HasSubstr("does not understand idempotency keys"));
  EXPECT_TRUE(absl::IsFailedPrecondition(call.status()));
  EXPECT_EQ(Text(cluster[0].Send("w1", Request("x"))), "");
  EXPECT_TRUE(absl::IsInvalidArgument(
      cluster[0]
          .Send("w1", Request("x"), {.idempotency_key = std::string(129, 'k')})
          .status()));
}

TEST(CancelTest, ReachesTheHandler) {
  for (const bool is_stock : {false, true}) {
    Gate started;
    Gate cancelled;
    std::atomic<bool> has_deadline = false;
    Cluster cluster(is_stock ? StockStore() : nullptr);
    cluster.Start(
        2, Blocking([&](const Message&,
                        const RequestInfo& info) -> absl::StatusOr<Message> {
          has_deadline = info.deadline != absl::InfiniteFuture();
          started.Open();
          const absl::Time end =
              is_stock ? RealRuntime().Now() + absl::Milliseconds(50) : Soon();
          while (!info.IsCancelled() && RealRuntime().Now() < end) {
            RealRuntime().SleepUntil(RealRuntime().Now() +
                                     absl::Milliseconds(1));
          }
          if (info.IsCancelled()) cancelled.Open();
          return absl::CancelledError("");
        }));
    const Future call =
        cluster[0].Send("w1", Request("x"), {.timeout = absl::Minutes(5)});
    ASSERT_TRUE(started.Wait());
    EXPECT_EQ(has_deadline, !is_stock);
    if (is_stock) {
      EXPECT_THAT(Text(call), HasSubstr("Error on Node 1"));
    } else {
      call.Cancel();
      EXPECT_TRUE(cancelled.Wait());
    }
  }
}

TEST(CancelTest, EveryCancellationCounts) {
  constexpr int kCalls = 3000;
  Gate gate;
  Cluster cluster;
  std::atomic<int> ran = 0;
  cluster.Start(2,
                Blocking([&](Message request,
                             const RequestInfo&) -> absl::StatusOr<Message> {
                  if (request.payload == "blocks") {
                    gate.Wait();
                  } else {
                    ++ran;
                  }
                  request.type = MessageType::kScriptRet;
                  return request;
                }),
                [](AgentOptions& options) { options.num_worker_threads = 1; });
  // What waits for a connection is dropped there.
  EXPECT_EQ(Text(cluster[0].Send("w1", Request("connects"))), "");
  ran = 0;
  const Future blocks = cluster[0].Send("w1", Request("blocks"));
  const auto queued = [&] {
    return cluster[1].GetMetrics()["agent.worker_queue"];
  };
  std::vector<Future> calls;
  for (int i = 0; i < kCalls; ++i) {
    calls.push_back(cluster[0].Send("w1", Request("cancelled")));
  }
  for (const Future& call : calls) call.Cancel();
  // When this request has come, so have all that was sent before it.
  const Future last = cluster[0].Send("w1", Request("last"));
  EXPECT_TRUE(Eventually([&] { return queued() == kCalls + 1; }));
  gate.Open();
  EXPECT_EQ(Text(last), "");
  EXPECT_EQ(Text(blocks), "");
  EXPECT_EQ(ran, 1);
}

TEST(BackpressureTest, BytesAreRefusedOrWaitedFor) {
  for (const WhenFull when_full : {WhenFull::kRefuse, WhenFull::kBlock}) {
    Gate gate;
    Cluster cluster;
    cluster.Start(2, EchoAfter(gate), [&](AgentOptions& options) {
      options.max_pending_bytes_per_peer = 1000;
      options.when_full = when_full;
    });
    const Future large = cluster[0].Send("w1", Request(std::string(5000, 'x')));
    const absl::Time start = RealRuntime().Now();
    const Future refused = cluster[0].Send("w1", Request("y"),
                                           {.timeout = absl::Milliseconds(30)});
    EXPECT_TRUE(absl::IsResourceExhausted(refused.status()));
    EXPECT_EQ(RealRuntime().Now() - start >= absl::Milliseconds(30),
              when_full == WhenFull::kBlock);
    gate.Open();
    EXPECT_EQ(Text(large), "");
    EXPECT_EQ(Text(cluster[0].Send("w1", Request("z"))), "");
  }
}

TEST(BackpressureTest, ACallbackNeverWaits) {
  Gate gate;
  Gate done;
  Cluster cluster;
  cluster.Start(2,
                Blocking([&](Message request,
                             const RequestInfo&) -> absl::StatusOr<Message> {
                  if (request.payload != "quick") gate.Wait();
                  request.type = MessageType::kScriptRet;
                  return request;
                }),
                [&](AgentOptions& options) {
                  options.max_pending_calls_per_peer = 1;
                  options.when_full = WhenFull::kBlock;
                });
  const Future slow = cluster[0].Send("w1", Request("slow"));
  cluster[0].Send("w0", Request("quick")).Then([&](const Future::Result&) {
    const Future refused = cluster[0].Send("w1", Request("x"));
    EXPECT_TRUE(absl::IsResourceExhausted(refused.status()));
    done.Open();
  });
  EXPECT_TRUE(done.Wait());
  gate.Open();
  EXPECT_EQ(Text(slow), "");
}

TEST(KeepaliveTest, SignsOfLifeAreAskedForWhileACallWaits) {
  for (const bool is_stock : {false, true}) {
    Gate gate;
    Cluster cluster(is_stock ? StockStore() : nullptr);
    cluster.Start(2,
                  Blocking([&](Message request,
                               const RequestInfo&) -> absl::StatusOr<Message> {
                    if (request.payload == "slow") gate.Wait();
                    request.type = MessageType::kScriptRet;
                    return request;
                  }),
                  [](AgentOptions& options) {
                    options.keepalive_interval = absl::Milliseconds(5);
                    options.keepalive_bound = absl::Seconds(20);
                  });
    EXPECT_EQ(Text(cluster[0].Send("w1", Request("x"))), "");
    const auto signs = [&] {
      return cluster[0].GetMetrics()["agent.signs_of_life"];
    };
    const int64_t before = signs();
    const Future slow = cluster[0].Send("w1", Request("slow"));
    if (is_stock) {
      RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(100));
      EXPECT_EQ(signs(), 0);
    } else {
      EXPECT_TRUE(Eventually([&] { return signs() >= before + 3; }));
    }
    gate.Open();
    EXPECT_EQ(Text(slow), "");
    EXPECT_EQ(cluster[0].GetMetrics()["agent.reconnects"], 0);
  }
}

}  // namespace
}  // namespace reprise::testing

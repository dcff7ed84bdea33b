// A server that is asked for more than it can hold, over real transports.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/agent.h"
#include "agent/transport/transports.h"
#include "agent/wire/message_codec.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensorpipe/core/context.h"
#include "tensorpipe/core/pipe.h"
#include "tests/unit/agent/cluster.h"

namespace reprise::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Text(const Future& call) {
  EXPECT_TRUE(call.Wait(Soon()));
  return std::string(call.status().message());
}

void Sleep(absl::Duration duration) {
  RealRuntime().SleepUntil(RealRuntime().Now() + duration);
}

bool Eventually(const std::function<bool()>& holds) {
  const absl::Time deadline = Soon();
  while (!holds()) {
    if (RealRuntime().Now() > deadline) return false;
    Sleep(absl::Milliseconds(1));
  }
  return true;
}

TEST(OverloadTest, ARequestBeyondTheQueueIsRefusedAndRetried) {
  Gate gate;
  Cluster cluster;
  cluster.Start(2, EchoAfter(gate), [](AgentOptions& options) {
    options.num_worker_threads = 1;
    options.server_bounds.queued_per_peer.calls = 1;
  });
  const Future running = cluster[0].Send("w1", Request("a"));
  ASSERT_TRUE(Eventually(
      [&] { return cluster[1].GetMetrics()["agent.running_requests"] == 1; }));
  const Future queued = cluster[0].Send("w1", Request("b"));
  ASSERT_TRUE(Eventually(
      [&] { return cluster[1].GetMetrics()["agent.worker_queue"] == 1; }));
  const Future refused = cluster[0].Send("w1", Request("c"));
  EXPECT_THAT(Text(refused),
              StartsWith("Refused by Node 1: RESOURCE_EXHAUSTED: 1 requests"));
  EXPECT_TRUE(absl::IsResourceExhausted(refused.status()));
  const Future retried =
      cluster[0].SendWithRetries("w1", Request("d"), {},
                                 {.max_retries = 1000,
                                  .retry_duration = absl::Milliseconds(2),
                                  .backoff = 1});
  ASSERT_TRUE(Eventually([&] {
    return cluster[1].GetMetrics()["agent.refused_requests_for_calls"] >= 3;
  }));
  EXPECT_THAT(cluster[1].GetPrometheusText(),
              HasSubstr("reprise_server_queued_requests{worker=\"w1\",peer="
                        "\"w0\"} 1\n"));
  gate.Open();
  for (const Future& call : {running, queued, retried}) {
    EXPECT_EQ(Text(call), "");
  }
}

// A caller that sends requests and takes no replies: TensorPipe without an
// agent, which reads nothing.
class DeafPeer {
 public:
  explicit DeafPeer(const std::string& url)
      : context_(tensorpipe::ContextOptions().name("deaf")) {
    TransportOptions options;
    options.transports = {"uv"};
    options.channels = {"basic"};
    options.bind_address = "127.0.0.1";
    const TransportSet set = *RealTransports().Make(options);
    for (const TransportEntry& transport : set.transports) {
      context_.registerTransport(transport.priority, transport.name,
                                 transport.context);
    }
    for (const ChannelEntry& channel : set.channels) {
      context_.registerChannel(channel.priority, channel.name, channel.context);
    }
    pipe_ = context_.connect(url);
  }
  ~DeafPeer() {
    pipe_->close();
    context_.join();
  }

  void Send(int64_t id, const std::string& payload) {
    const auto encoded = *Encode(Request(payload), id);
    pipe_->write(ToTensorPipe(*encoded),
                 [this, encoded](const tensorpipe::Error& error) {
                   if (!error) ++num_sent_;
                 });
  }
  int num_sent() const { return num_sent_; }

 private:
  std::atomic<int> num_sent_ = 0;
  tensorpipe::Context context_;
  std::shared_ptr<tensorpipe::Pipe> pipe_;
};

TEST(OverloadTest, RepliesThatNobodyTakesAreBounded) {
  constexpr int kCalls = 200;
  constexpr size_t kReply = size_t{1} << 20;
  std::atomic<int> runs = 0;
  Cluster cluster;
  cluster.Start(2,
                Blocking([&](Message request,
                             const RequestInfo&) -> absl::StatusOr<Message> {
                  ++runs;
                  request.type = MessageType::kScriptRet;
                  if (request.payload == "large") {
                    request.payload.assign(kReply, 'x');
                  }
                  return request;
                }),
                [](AgentOptions& options) {
                  options.server_bounds.unwritten_per_peer.bytes = 4 * kReply;
                });
  DeafPeer deaf(*cluster.store()->TryGet("addrs/w1", Soon()));
  for (int i = 0; i < kCalls; ++i) deaf.Send(i, "large");
  const auto metric = [&](const std::string& name) {
    return cluster[1].GetMetrics()["agent." + name];
  };
  // All have come, the sockets are full, and no more is started. What is
  // between the last two cannot be seen, so it is looked at twice.
  EXPECT_TRUE(Eventually([&] {
    const int before = runs;
    Sleep(absl::Milliseconds(20));
    return before == runs && metric("running_requests") == 0 &&
           metric("worker_queue") == kCalls - runs;
  }));
  const auto unwritten = metric("unwritten_reply_bytes");
  EXPECT_GE(unwritten, static_cast<int64_t>(4 * kReply));
  // Four handlers may run when the bound is reached.
  EXPECT_LE(unwritten, static_cast<int64_t>(8 * kReply + 8000));
  EXPECT_LT(runs, kCalls);
  // Another caller is served as ever.
  EXPECT_EQ(Text(cluster[0].Send("w1", Request("small"))), "");
}

TEST(OverloadTest, AConnectionIsNotReadWhileItsRepliesAreNotTaken) {
  // Almost all are refused, by replies that nobody takes.
  constexpr int kCalls = 200000;
  constexpr int64_t kUnwritten = 100;
  Gate gate;
  Cluster cluster;
  cluster.Start(2, EchoAfter(gate), [](AgentOptions& options) {
    options.server_bounds.queued_per_peer.calls = 1;
    options.server_bounds.unwritten_per_peer.calls = kUnwritten;
  });
  DeafPeer deaf(*cluster.store()->TryGet("addrs/w1", Soon()));
  const std::string payload(1000, 'x');
  int sent = 0;
  const auto unwritten = [&] {
    return cluster[1].GetMetrics()["agent.unwritten_replies"];
  };
  // Until the sockets of both directions are full.
  for (int i = 0; i < kCalls && unwritten() < kUnwritten; i += 4000) {
    for (int j = 0; j < 4000; ++j) deaf.Send(i + j, payload);
    sent += 4000;
    Eventually(
        [&] { return deaf.num_sent() == sent || unwritten() >= kUnwritten; });
  }
  EXPECT_GE(unwritten(), kUnwritten);
  for (int i = 0; i < 1000; ++i) deaf.Send(i, payload);
  Sleep(absl::Milliseconds(50));
  // One request was being read already.
  EXPECT_LE(unwritten(), kUnwritten + 1);
  gate.Open();
}

TEST(OverloadTest, ConnectionsBeyondTheBoundAreRefused) {
  Cluster cluster;
  cluster.Start(3, Echo(), [](AgentOptions& options) {
    options.server_bounds.connections_in_all = 1;
  });
  EXPECT_EQ(Text(cluster[0].Send("w2", Request("x"))), "");
  const Future refused = cluster[1].Send("w2", Request("x"));
  EXPECT_TRUE(absl::IsUnavailable(refused.status())) << refused.status();
  EXPECT_GE(cluster[2].GetMetrics()["agent.refused_connections"], 1);
  EXPECT_EQ(cluster[2].GetMetrics()["agent.connections"], 1);
  cluster.Stop(0);
  EXPECT_EQ(
      Text(cluster[1].SendWithRetries("w2", Request("x"), {},
                                      {.max_retries = 1000,
                                       .retry_duration = absl::Milliseconds(5),
                                       .backoff = 1})),
      "");
}

TEST(OverloadTest, AKeyDoesNotOutliveTheServer) {
  Cluster cluster;
  cluster.Start(2, Echo());
  const auto call = [&](const std::string& key) {
    return Text(
        cluster[0].SendWithRetries("w1", Request("x"), {.idempotency_key = key},
                                   {.max_retries = 100,
                                    .retry_duration = absl::Milliseconds(5),
                                    .backoff = 1}));
  };
  EXPECT_EQ(call("a"), "");
  cluster.Stop(1);
  ASSERT_TRUE(cluster.StartOne(OptionsFor(1, 2), Echo(), Soon()).ok());
  EXPECT_THAT(call("a"), HasSubstr("may have run before"));
  EXPECT_EQ(call("b"), "");
}

TEST(OverloadTest, AnErrorMayBeForgotten) {
  std::atomic<int> runs = 0;
  Cluster cluster;
  cluster.Start(2, Blocking([&](Message request,
                                const RequestInfo&) -> absl::StatusOr<Message> {
                  if (++runs == 1) {
                    return MayRunAgain(absl::UnavailableError("no database"));
                  }
                  if (runs == 2) return absl::AbortedError("half of it");
                  request.type = MessageType::kScriptRet;
                  return request;
                }));
  const auto call = [&](const std::string& key) {
    return Text(cluster[0].Send("w1", Request("x"), {.idempotency_key = key}));
  };
  EXPECT_THAT(call("a"), HasSubstr("UNAVAILABLE: no database"));
  EXPECT_THAT(call("a"), HasSubstr("half of it"));
  EXPECT_THAT(call("a"), HasSubstr("half of it"));
  EXPECT_EQ(runs, 2);
}

}  // namespace
}  // namespace reprise::testing

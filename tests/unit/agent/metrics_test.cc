// What agents count of their calls, exactly.

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/agent.h"
#include "agent/wire/message_codec.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"
#include "tests/unit/agent/holding_proxy.h"

namespace reprise::testing {
namespace {

using ::testing::HasSubstr;

// What a message weighs on the wire.
int64_t Bytes(Message message) {
  return static_cast<int64_t>((*Encode(std::move(message), 0))->num_bytes());
}

Message Reply(Message message) {
  message.type = MessageType::kScriptRet;
  return message;
}

// The transport tells of a write after the reply may have come.
bool Eventually(const std::function<bool()>& holds) {
  const absl::Time deadline = Soon();
  while (!holds()) {
    if (RealRuntime().Now() > deadline) return false;
    RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(1));
  }
  return true;
}

Message Payload(int64_t i) {
  Message message = Request(std::string(100 * i, 'x'));
  if (i % 2 == 0) message.tensors.push_back(*MakeTensor(DType::kInt32, {i}));
  return message;
}

TEST(MetricsTest, CallsAndBytesAreCountedExactly) {
  Cluster cluster;
  // Signs of life do not count.
  cluster.Start(3, Echo(), [](AgentOptions& options) {
    options.keepalive_interval = absl::Milliseconds(1);
  });
  std::map<std::string, NetworkData> expected;
  for (int64_t i = 0; i < 20; ++i) {
    const std::string peer = absl::StrCat("w", 1 + i % 2);
    ASSERT_TRUE(cluster[0].Send(peer, Payload(i)).status().ok());
    NetworkData& data = expected[peer];
    ++data.calls;
    data.sent_bytes += Bytes(Payload(i));
    data.received_bytes += Bytes(Reply(Payload(i)));
  }
  EXPECT_TRUE(
      Eventually([&] { return cluster[0].GetNetworkData() == expected; }));
  const std::map<std::string, NetworkData> counted =
      cluster[0].GetNetworkData();
  ASSERT_EQ(counted.size(), 2u);
  for (const auto& [peer, data] : expected) {
    EXPECT_EQ(counted.at(peer).calls, data.calls);
    EXPECT_EQ(counted.at(peer).sent_bytes, data.sent_bytes);
    EXPECT_EQ(counted.at(peer).received_bytes, data.received_bytes);
    EXPECT_EQ(counted.at(peer).errors, 0);
  }
  // The other end saw the same bytes.
  const std::string served = absl::StrCat(
      "reprise_server_received_bytes_total{worker=\"w1\",peer=\"w0\"} ",
      expected["w1"].sent_bytes, "\n");
  EXPECT_THAT(cluster[1].GetPrometheusText(), HasSubstr(served));
  const std::string answered = absl::StrCat(
      "reprise_server_sent_bytes_total{worker=\"w1\",peer=\"w0\"} ",
      expected["w1"].received_bytes, "\n");
  EXPECT_TRUE(Eventually([&] {
    return absl::StrContains(cluster[1].GetPrometheusText(), answered);
  }));
}

TEST(MetricsTest, ErrorsAreCountedAtBothEnds) {
  Cluster cluster;
  cluster.Start(2, Blocking([](Message request,
                               const RequestInfo&) -> absl::StatusOr<Message> {
                  if (request.payload == "fail") {
                    return absl::NotFoundError("as asked");
                  }
                  return Reply(std::move(request));
                }));
  for (const char* payload : {"fail", "work", "fail"}) {
    cluster[0].Send("w1", Request(payload)).status().IgnoreError();
  }
  EXPECT_FALSE(cluster[0].Send("w7", Request("")).status().ok());
  EXPECT_FALSE(cluster[0].Send("w1", Reply(Message())).status().ok());
  EXPECT_EQ(cluster[0].GetNetworkData()["w1"].calls, 3);
  EXPECT_EQ(cluster[0].GetNetworkData()["w1"].errors, 2);
  EXPECT_EQ(cluster[0].GetMetrics()["agent.refused_calls"], 2);
  EXPECT_THAT(
      cluster[1].GetPrometheusText(),
      HasSubstr("reprise_server_error_replies_total{worker=\"w1\",peer=\"w0\"}"
                " 2\n"));
  EXPECT_THAT(cluster[0].GetPrometheusText(),
              HasSubstr("reprise_client_call_seconds_count{worker=\"w0\","
                        "peer=\"w1\",type=\"script_call\"} 3\n"));
}

TEST(MetricsTest, QueuedWorkShows) {
  Gate gate;
  Cluster cluster;
  cluster.Start(2, Blocking([&](Message request,
                                const RequestInfo&) -> absl::StatusOr<Message> {
                  gate.Wait();
                  return Reply(std::move(request));
                }));
  std::vector<Future> replies;
  for (int i = 0; i < 10; ++i) {  // 4 threads
    replies.push_back(cluster[0].Send("w1", Request("")));
  }
  EXPECT_TRUE(Eventually(
      [&] { return cluster[1].GetMetrics()["agent.worker_queue"] == 6; }));
  EXPECT_EQ(cluster[1].GetMetrics()["agent.num_idle_threads"], 0);
  EXPECT_EQ(cluster[1].GetMetrics()["agent.server_active_calls"], 10);
  EXPECT_EQ(cluster[0].GetMetrics()["agent.client_active_calls"], 10);
  gate.Open();
  for (const Future& reply : replies) EXPECT_TRUE(reply.status().ok());
}

TEST(MetricsTest, BytesHeldForAPeerShow) {
  const int64_t large = int64_t{64} << 20;  // more than any socket takes
  Gate gate;
  Cluster cluster;
  cluster.Start(2, Blocking([&](Message request,
                                const RequestInfo&) -> absl::StatusOr<Message> {
                  gate.Wait();
                  return Reply(std::move(request));
                }));
  HoldingProxy proxy(PortOfWorker(cluster, 1));
  StartCallerThrough(cluster, proxy.port(), [](AgentOptions& options) {
    options.keepalive_interval = absl::ZeroDuration();
  });
  const auto of_client = [&](const char* what) {
    return absl::StrCat("reprise_client_unwritten_", what,
                        "{worker=\"w0\",peer=\"w1\"} ");
  };
  const auto of_server = [&](const char* what) {
    return absl::StrCat("reprise_server_", what,
                        "{worker=\"w1\",peer=\"w0\"} ");
  };
  const auto shows = [&](int64_t worker, const std::string& sample,
                         int64_t value) {
    return Eventually([&, line = absl::StrCat(sample, value, "\n")] {
      return absl::StrContains(cluster[worker].GetPrometheusText(), line);
    });
  };
  Message request = Request(std::string(large, 'x'));
  const int64_t bytes = Bytes(request);
  const int64_t reply_bytes = Bytes(Reply(request));

  // At the client, until the transport has taken it.
  proxy.Hold(HoldingProxy::kToTarget, 1 << 20);
  const Future call = cluster[0].Send("w1", std::move(request));
  EXPECT_TRUE(shows(0, of_client("requests"), 1));
  EXPECT_TRUE(shows(0, of_client("request_bytes"), bytes));
  EXPECT_EQ(cluster[0].GetMetrics()["agent.unwritten_requests"], 1);
  EXPECT_EQ(cluster[0].GetMetrics()["agent.unwritten_request_bytes"], bytes);
  EXPECT_EQ(cluster[0].GetDebugInfo()["peer.w1.unwritten_request_bytes"],
            absl::StrCat(bytes));
  proxy.Release();

  // At the server while the handler runs, and until the reply was taken.
  EXPECT_TRUE(shows(1, of_server("running_bytes"), bytes));
  EXPECT_TRUE(shows(0, of_client("request_bytes"), 0));
  proxy.Hold(HoldingProxy::kFromTarget, 1 << 20);
  gate.Open();
  EXPECT_TRUE(shows(1, of_server("unwritten_replies"), 1));
  EXPECT_TRUE(shows(1, of_server("unwritten_reply_bytes"), reply_bytes));
  EXPECT_TRUE(shows(1, of_server("running_bytes"), 0));
  EXPECT_FALSE(call.done());
  proxy.Release();
  EXPECT_TRUE(call.status().ok()) << call.status();
  EXPECT_TRUE(shows(1, of_server("unwritten_reply_bytes"), 0));
  EXPECT_EQ(cluster[0].GetMetrics()["agent.unwritten_requests"], 0);
}

// A call that has ended is held until its connection lets go of it.
TEST(MetricsTest, NothingIsHeldForAConnectionThatFailed) {
  const std::string large(size_t{64} << 20, 'x');
  Cluster cluster;
  cluster.Start(2, Echo());
  HoldingProxy proxy(PortOfWorker(cluster, 1));
  StartCallerThrough(cluster, proxy.port());
  const CallOptions in_line{.lane = Lane::kPriority};
  ASSERT_TRUE(cluster[0].Send("w1", Request("x"), in_line).status().ok());
  proxy.Hold(HoldingProxy::kToTarget, 0);
  std::vector<Future> calls;
  for (const std::string& payload : {large, std::string("x")}) {
    calls.push_back(cluster[0].Send("w1", Request(payload), in_line));
  }
  calls[0].Cancel();
  EXPECT_TRUE(absl::IsCancelled(calls[0].status())) << calls[0].status();
  EXPECT_EQ(cluster[0].GetMetrics()["agent.unwritten_requests"], 2);
  EXPECT_GT(cluster[0].GetMetrics()["agent.unwritten_request_bytes"],
            static_cast<int64_t>(large.size()));
  proxy.Break();
  for (const Future& call : calls) EXPECT_FALSE(call.status().ok());
  EXPECT_TRUE(Eventually([&] {
    return cluster[0].GetMetrics()["agent.unwritten_requests"] == 0;
  }));
  EXPECT_EQ(cluster[0].GetMetrics()["agent.unwritten_request_bytes"], 0);
}

TEST(MetricsTest, DebugInfoHasTheKeysOfPyTorchAndThePeers) {
  Cluster cluster;
  cluster.Start(2, Echo());
  ASSERT_TRUE(cluster[0].Send("w1", Request("")).status().ok());
  const std::map<std::string, std::string> info = cluster[0].GetDebugInfo();
  for (const char* key :
       {"agent.thread_pool_size", "agent.num_idle_threads",
        "agent.client_active_calls", "agent.server_active_calls",
        "agent.server_active_async_calls", "agent.gil_average_wait_time_us"}) {
    EXPECT_TRUE(info.count(key)) << key;
  }
  EXPECT_EQ(info.at("agent.thread_pool_size"), "4");
  EXPECT_EQ(info.at("peer.w1.calls"), "1");
  EXPECT_THAT(info.at("peer.w1.connection"), HasSubstr("works: "));
}

}  // namespace
}  // namespace reprise::testing

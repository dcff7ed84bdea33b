// Calls between agents: replies, errors, timeouts, bounds, cancellation.

#include <atomic>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/agent.h"
#include "agent/device/tensor.h"
#include "agent/transport/transports.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"
#include "tests/unit/agent/recorder.h"

namespace reprise::testing {
namespace {

using ::testing::HasSubstr;

std::string Text(const absl::Status& status) {
  return std::string(status.message());
}

Tensor Int32s(std::vector<int32_t> values) {
  Tensor tensor =
      *MakeTensor(DType::kInt32, {static_cast<int64_t>(values.size())});
  std::memcpy(tensor.storage->data(), values.data(),
              values.size() * sizeof(int32_t));
  return tensor;
}

// The calls of one test go through every set of transports that works here.
class TransportTest
    : public ::testing::TestWithParam<std::vector<std::string>> {};

TEST_P(TransportTest, EchoesPayloadAndTensors) {
  for (const TransportProbe& probe : ProbeRealTransports("127.0.0.1")) {
    if (!probe.viable && !GetParam().empty() && probe.kind == "transport" &&
        probe.name == GetParam()[0]) {
      GTEST_SKIP() << probe.detail;
    }
  }
  Cluster cluster;
  cluster.Start(2, Echo(), [&](AgentOptions& options) {
    options.transport.transports = GetParam();
    options.transport.channels = {};
  });
  for (const char* peer : {"w1", "w0"}) {  // another one, and itself
    for (const size_t payload : {size_t{0}, size_t{64}, size_t{1} << 20}) {
      Message request = Request(std::string(payload, 'x'));
      request.tensors.push_back(Int32s({1, 2, 3, 4, 5, 6}));
      request.tensors.push_back(Int32s(std::vector<int32_t>(1 << 18, 7)));
      const Future reply = cluster[0].Send(peer, request);
      ASSERT_TRUE(reply.Wait(Soon()));
      ASSERT_TRUE(reply.result().ok()) << reply.status();
      const Message& message = *reply.result();
      EXPECT_EQ(message.type, MessageType::kScriptRet);
      EXPECT_EQ(message.payload, request.payload);
      ASSERT_EQ(message.tensors.size(), 2u);
      for (size_t i = 0; i < 2; ++i) {
        const Tensor& sent = request.tensors[i];
        const Tensor& got = message.tensors[i];
        EXPECT_EQ(got.sizes, sent.sizes);
        ASSERT_EQ(got.storage->num_bytes(), sent.storage->num_bytes());
        EXPECT_EQ(std::memcmp(got.storage->data(), sent.storage->data(),
                              sent.storage->num_bytes()),
                  0);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, TransportTest,
                         ::testing::Values(std::vector<std::string>{"uv"},
                                           std::vector<std::string>{"shm",
                                                                    "uv"},
                                           std::vector<std::string>{}));

TEST(CallTest, ManyCallsInFlightGetTheirOwnReplies) {
  Cluster cluster;
  cluster.Start(3, Echo());
  std::vector<std::pair<std::string, Future>> calls;
  for (int i = 0; i < 300; ++i) {
    const std::string payload = absl::StrCat("call ", i);
    calls.emplace_back(
        payload, cluster[i % 2].Send(static_cast<WorkerId>((i + i / 3) % 3),
                                     Request(payload)));
  }
  for (const auto& [payload, reply] : calls) {
    ASSERT_TRUE(reply.Wait(Soon()));
    ASSERT_TRUE(reply.result().ok()) << reply.status();
    EXPECT_EQ(reply.result()->payload, payload);
  }
}

TEST(CallTest, RepliesComeInAnyOrder) {
  // Each handler but the last waits for the one after it.
  constexpr int kCalls = 4;
  Gate gates[kCalls + 1];
  gates[kCalls].Open();
  Cluster cluster;
  cluster.Start(2, Blocking([&](Message request,
                                const RequestInfo&) -> absl::StatusOr<Message> {
                  const int i = std::stoi(request.payload);
                  if (!gates[i + 1].Wait()) return absl::InternalError("late");
                  request.type = MessageType::kScriptRet;
                  return request;
                }));
  std::vector<Future> replies;
  for (int i = 0; i < kCalls; ++i) {
    replies.push_back(cluster[0].Send("w1", Request(absl::StrCat(i))));
    replies.back().Then(
        [&gates, i](const Future::Result&) { gates[i].Open(); });
  }
  for (int i = kCalls - 1; i >= 0; --i) {
    ASSERT_TRUE(replies[i].Wait(Soon()));
    ASSERT_TRUE(replies[i].result().ok()) << replies[i].status();
    EXPECT_EQ(replies[i].result()->payload, absl::StrCat(i));
  }
}

TEST(CallTest, AnswersAfterTheHandlerHasReturned) {
  Gate returned;
  std::optional<Reply> kept;
  Cluster cluster;
  cluster.Start(2, [&](const Message&, const RequestInfo& info, Reply reply) {
    EXPECT_EQ(info.caller, "w0");
    kept = std::move(reply);
    returned.Open();
  });
  const Future reply = cluster[0].Send("w1", Request(""));
  ASSERT_TRUE(returned.Wait());
  EXPECT_FALSE(reply.done());
  EXPECT_EQ(cluster[1].GetMetrics()["agent.server_active_async_calls"], 1);
  (*kept)(Message{MessageType::kPythonRet, "later", {}});
  ASSERT_TRUE(reply.Wait(Soon()));
  ASSERT_TRUE(reply.result().ok()) << reply.status();
  EXPECT_EQ(reply.result()->payload, "later");
}

TEST(CallTest, AReplyMayOutliveItsAgent) {
  Gate returned;
  std::optional<Reply> kept;
  Recorder recorder;
  {
    Cluster cluster;
    cluster.set_observer(&recorder);
    cluster.Start(1, [&](const Message&, const RequestInfo&, Reply reply) {
      kept = std::move(reply);
      returned.Open();
    });
    const Future reply = cluster[0].Send("w0", Request(""));
    ASSERT_TRUE(returned.Wait());
    cluster.Stop(0);
    EXPECT_EQ(reply.status().code(), absl::StatusCode::kCancelled);
    EXPECT_EQ(Text(reply.status()), "agent w0 was shut down");
  }
  (*kept)(absl::InternalError("too late"));
  EXPECT_EQ(recorder.Count("reply"), 0);
  EXPECT_EQ(recorder.events().back(), "shutdown");
}

TEST(CallTest, ErrorsOfTheHandlerComeBack) {
  Cluster cluster;
  cluster.Start(2, [](Message request, const RequestInfo&, Reply reply) {
    if (request.payload == "status") {
      reply(absl::InvalidArgumentError("bad argument"));
    } else if (request.payload == "throw") {
      throw std::runtime_error("it was thrown");
    } else if (request.payload == "throw int") {
      throw 7;
    } else if (request.payload == "not a response") {
      reply(std::move(request));
    } else if (request.payload == "bad tensor") {
      Tensor tensor = Int32s({1, 2});
      tensor.sizes = {3};
      reply(Message{MessageType::kScriptRet, "", {tensor}});
    }  // else: drop it
  });
  const auto error = [&](const std::string& payload) {
    const Future reply = cluster[0].Send("w1", Request(payload));
    EXPECT_TRUE(reply.Wait(Soon()));
    return reply.status();
  };
  EXPECT_EQ(error("status").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Text(error("status")), HasSubstr("Error on Node 1: "));
  EXPECT_THAT(Text(error("status")), HasSubstr("bad argument"));
  EXPECT_EQ(error("throw").code(), absl::StatusCode::kUnknown);
  EXPECT_EQ(Text(error("throw")), "Error on Node 1: it was thrown");
  EXPECT_EQ(error("throw int").code(), absl::StatusCode::kUnknown);
  EXPECT_THAT(Text(error("not a response")), HasSubstr("is no response"));
  EXPECT_FALSE(error("bad tensor").ok());
  EXPECT_THAT(Text(error("drop")), HasSubstr("the handler gave no answer"));
  // None of this cost the connection.
  EXPECT_EQ(cluster[0].GetMetrics()["agent.reconnects"], 0);
}

TEST(CallTest, WhatIsWrongWithACallIsToldByItsFuture) {
  Recorder recorder;
  Cluster cluster;
  cluster.set_observer(&recorder);
  cluster.Start(2, Echo());
  const auto error = [&](const Future& reply) {
    EXPECT_TRUE(reply.done());
    return reply.status();
  };
  const absl::Status no_name = error(cluster[1].Send("w7", Request("")));
  EXPECT_TRUE(absl::IsNotFound(no_name));
  EXPECT_EQ(Text(no_name), "name:w1,rank:1 could not find destination w7");
  const absl::Status no_id = error(cluster[1].Send(WorkerId{2}, Request("")));
  EXPECT_TRUE(absl::IsNotFound(no_id));
  EXPECT_EQ(Text(no_id), "name:w1,rank:1 could not find destination 2");
  EXPECT_EQ(error(cluster[1].Send(WorkerId{-1}, Request(""))).code(),
            absl::StatusCode::kNotFound);
  Message response = Request("");
  response.type = MessageType::kScriptRet;
  EXPECT_EQ(error(cluster[0].Send("w1", response)).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(
      error(cluster[0].Send("w1", Request(""), {.timeout = -absl::Seconds(2)}))
          .code(),
      absl::StatusCode::kInvalidArgument);
  Message outside = Request("");
  outside.tensors.push_back(Int32s({1, 2}));
  outside.tensors[0].sizes = {3};
  EXPECT_EQ(error(cluster[0].Send("w1", outside)).code(),
            absl::StatusCode::kInvalidArgument);
  // Nothing of it was entered anywhere (defect 7).
  EXPECT_EQ(recorder.Count("started"), 0);
  auto metrics = cluster[0].GetMetrics();
  EXPECT_EQ(metrics["agent.client_active_calls"], 0);
  EXPECT_EQ(metrics["agent.pending_calls"], 0);
  // One may belong to the keepalive: members have looked at each other.
  EXPECT_LE(metrics["agent.timers"], 1);
}

TEST(CallTest, TimesOutAndNeverEarly) {
  Gate gate;
  Recorder recorder;
  std::atomic<int> started = 0;
  Cluster cluster;
  cluster.set_observer(&recorder);
  cluster.Start(2,
                Blocking([&](Message request,
                             const RequestInfo&) -> absl::StatusOr<Message> {
                  ++started;
                  gate.Wait();
                  request.type = MessageType::kScriptRet;
                  return request;
                }),
                [](AgentOptions& options) {
                  options.num_worker_threads = 8;
                  options.keepalive_interval = absl::ZeroDuration();
                  options.rpc_timeout = absl::Milliseconds(30);
                });
  struct Case {
    absl::Duration timeout;
    absl::Duration expected;
    std::string text;
  };
  for (const Case& c : std::vector<Case>{
           {absl::Milliseconds(20), absl::Milliseconds(20), "(20 ms)"},
           {kUnsetTimeout, absl::Milliseconds(30), "(30 ms)"},
           {absl::Microseconds(500), absl::Microseconds(500), "(0.5 ms)"},
           {absl::Nanoseconds(1), absl::Nanoseconds(1), "ms)"}}) {
    const absl::Time start = RealRuntime().Now();
    const Future reply =
        cluster[0].Send("w1", Request(""), {.timeout = c.timeout});
    ASSERT_TRUE(reply.Wait(Soon()));
    EXPECT_GE(RealRuntime().Now() - start, c.expected);
    EXPECT_EQ(reply.status().code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_THAT(Text(reply.status()),
                HasSubstr("RPCErr:1:RPC ran for more than set timeout "));
    EXPECT_THAT(Text(reply.status()), HasSubstr(c.text));
    EXPECT_THAT(Text(reply.status()),
                HasSubstr(" and will now be marked with an error"));
  }
  // 0 and infinity are no timeout.
  const Future zero =
      cluster[0].Send("w1", Request("zero"), {.timeout = absl::ZeroDuration()});
  const Future never = cluster[0].Send("w1", Request("never"),
                                       {.timeout = absl::InfiniteDuration()});
  const Future far = cluster[0].Send("w1", Request("far"),
                                     {.timeout = absl::Hours(1'000'000'000)});
  EXPECT_EQ(cluster[0].GetMetrics()["agent.pending_calls"], 3);
  // And perhaps that of the keepalive: members have looked at each other.
  EXPECT_LE(cluster[0].GetMetrics()["agent.timers"], 2);
  gate.Open();
  for (const Future* reply : {&zero, &never, &far}) {
    ASSERT_TRUE(reply->Wait(Soon()));
    EXPECT_TRUE(reply->status().ok()) << reply->status();
  }
  // What timed out has not reached its handler, or its reply is dropped.
  const int num_late = started - 3;
  EXPECT_TRUE(recorder.WaitFor("late", num_late));
  EXPECT_GE(cluster[0].GetMetrics()["agent.late_replies"], num_late);
  EXPECT_LE(cluster[0].GetMetrics()["agent.timers"], 1);
  EXPECT_EQ(cluster[0].GetMetrics()["agent.reconnects"], 0);
}

TEST(CallTest, TimeoutsAndRepliesDoNotWaitForTheWorkers) {
  // The only worker is blocked in a handler that calls its own agent: nothing
  // but the timeout can end that (defect 9).
  Cluster cluster;
  Gate ready;
  cluster.Start(
      2,
      [&](Message request, const RequestInfo&, Reply reply) {
        request.type = MessageType::kScriptRet;
        if (request.payload == "outer" && ready.Wait()) {
          const Future nested = cluster[1].Send(
              "w1", Request("nested"), {.timeout = absl::Milliseconds(20)});
          request.payload = absl::StatusCodeToString(nested.status().code());
        }
        reply(std::move(request));
      },
      [](AgentOptions& options) { options.num_worker_threads = 1; });
  ready.Open();
  std::vector<Future> replies;
  for (int i = 0; i < 4; ++i) {
    replies.push_back(cluster[0].Send("w1", Request("outer")));
  }
  for (const Future& reply : replies) {
    ASSERT_TRUE(reply.Wait(Soon()));
    ASSERT_TRUE(reply.result().ok()) << reply.status();
    EXPECT_EQ(reply.result()->payload, "DEADLINE_EXCEEDED");
  }
}

TEST(CallTest, CancelCompletesAtOnce) {
  Gate gate;
  Recorder recorder;
  Cluster cluster;
  cluster.set_observer(&recorder);
  cluster.Start(2, EchoAfter(gate));
  const Future reply = cluster[0].Send("w1", Request(""));
  ASSERT_TRUE(recorder.WaitFor("request"));
  reply.Cancel();
  EXPECT_TRUE(reply.done());
  EXPECT_EQ(reply.status().code(), absl::StatusCode::kCancelled);
  reply.Cancel();
  EXPECT_EQ(cluster[0].GetMetrics()["agent.pending_calls"], 0);
  EXPECT_EQ(cluster[0].GetMetrics()["agent.client_active_calls"], 0);
  gate.Open();
  EXPECT_TRUE(recorder.WaitFor("late"));
  // One that is done stays as it is.
  const Future done = cluster[0].Send("w1", Request(""));
  ASSERT_TRUE(done.Wait(Soon()));
  done.Cancel();
  EXPECT_TRUE(done.status().ok()) << done.status();
}

TEST(CallTest, RefusesACallBeyondTheBound) {
  Gate gate;
  Cluster cluster;
  cluster.Start(
      3,
      Blocking(
          [&](Message request, const RequestInfo&) -> absl::StatusOr<Message> {
            gate.Wait();
            request.type = MessageType::kScriptRet;
            return request;
          }),
      [](AgentOptions& options) { options.max_pending_calls_per_peer = 2; });
  const Future first = cluster[0].Send("w1", Request(""));
  const Future second = cluster[0].Send("w1", Request(""));
  const Future third = cluster[0].Send("w1", Request(""));
  EXPECT_TRUE(third.done());
  EXPECT_EQ(third.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Text(third.status()),
              HasSubstr("too many calls pending to w1 (2 of "));
  // Per peer.
  const Future other = cluster[0].Send("w2", Request(""));
  EXPECT_FALSE(other.done());
  gate.Open();
  for (const Future* reply : {&first, &second, &other}) {
    ASSERT_TRUE(reply->Wait(Soon()));
    EXPECT_TRUE(reply->status().ok()) << reply->status();
  }
  const Future fourth = cluster[0].Send("w1", Request(""));
  EXPECT_TRUE(fourth.status().ok()) << fourth.status();
}

TEST(CallTest, EveryCallOnABrokenConnectionFails) {
  Gate gate;
  Recorder recorder;
  Cluster cluster;
  cluster.set_observer(&recorder);
  cluster.Start(3, EchoAfter(gate), [](AgentOptions& options) {
    options.keepalive_interval = absl::ZeroDuration();
  });
  std::vector<Future> calls;
  for (int i = 0; i < 3; ++i) {
    calls.push_back(cluster[0].Send("w1", Request("")));
  }
  const Future to_another = cluster[0].Send("w2", Request(""));
  ASSERT_TRUE(recorder.WaitFor("request", 4));
  // And perhaps that of the keepalive: members have looked at each other.
  EXPECT_GE(cluster[0].GetMetrics()["agent.timers"], 4);
  EXPECT_LE(cluster[0].GetMetrics()["agent.timers"], 5);
  const std::unique_ptr<Thread> stopping = RealRuntime().StartThread(
      "stopping", [&] { EXPECT_TRUE(cluster[1].Shutdown(Soon()).ok()); });
  for (const Future& call : calls) {
    ASSERT_TRUE(call.Wait(Soon()));
    EXPECT_EQ(call.status().code(), absl::StatusCode::kUnavailable);
  }
  EXPECT_FALSE(to_another.done());
  EXPECT_EQ(cluster[0].GetMetrics()["agent.pending_calls"], 1);
  // And perhaps that of the keepalive: members have looked at each other.
  EXPECT_LE(cluster[0].GetMetrics()["agent.timers"], 2);
  gate.Open();
  stopping->Join();
  EXPECT_TRUE(to_another.status().ok()) << to_another.status();
}

TEST(CallTest, CallsCountAsActiveUntilTheirCallbacksHaveRun) {
  Gate registered, entered, leave;
  Cluster cluster;
  cluster.Start(2, Blocking([&](Message request,
                                const RequestInfo&) -> absl::StatusOr<Message> {
                  registered.Wait();
                  request.type = MessageType::kScriptRet;
                  return request;
                }));
  const Future reply = cluster[0].Send("w1", Request(""));
  reply.Then([&](const Future::Result&) {
    entered.Open();
    leave.Wait();
  });
  registered.Open();
  ASSERT_TRUE(reply.Wait(Soon()));
  EXPECT_TRUE(entered.Wait());
  EXPECT_EQ(cluster[0].GetMetrics()["agent.client_active_calls"], 1);
  EXPECT_EQ(cluster[0].GetMetrics()["agent.pending_calls"], 0);
  leave.Open();
  EXPECT_TRUE(cluster[0].Shutdown(Soon()).ok());
  EXPECT_EQ(cluster[0].GetMetrics()["agent.client_active_calls"], 0);
}

TEST(CallTest, KnowsTheWorkers) {
  Cluster cluster;
  cluster.Start(3, Echo());
  EXPECT_EQ(cluster[1].self(), (WorkerInfo{"w1", 1}));
  EXPECT_EQ(*cluster[1].GetWorkerInfo("w2"), (WorkerInfo{"w2", 2}));
  EXPECT_EQ(*cluster[1].GetWorkerInfo(WorkerId{0}), (WorkerInfo{"w0", 0}));
  EXPECT_EQ(*cluster[1].GetWorkerInfo(WorkerId{2}), (WorkerInfo{"w2", 2}));
  for (const char* name : {"w3", "w1x", ""}) {
    EXPECT_EQ(cluster[1].GetWorkerInfo(name).status().code(),
              absl::StatusCode::kNotFound);
  }
  EXPECT_EQ(cluster[1].GetWorkerInfo(WorkerId{3}).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(cluster[1].GetWorkerInfos(),
            (std::vector<WorkerInfo>{{"w0", 0}, {"w1", 1}, {"w2", 2}}));
}

TEST(CallTest, ObserversHearOfEachCallOnce) {
  Recorder recorder;
  {
    Cluster cluster;
    cluster.set_observer(&recorder);
    cluster.Start(2, Echo());
    for (int i = 0; i < 20; ++i) {
      EXPECT_TRUE(cluster[0].Send("w1", Request("")).status().ok());
    }
  }
  EXPECT_EQ(recorder.Count("started"), 20);
  EXPECT_EQ(recorder.Count("completed"), 20);
  EXPECT_EQ(recorder.Count("request"), 20);
  EXPECT_EQ(recorder.Count("reply"), 20);
  EXPECT_EQ(recorder.Count("pipe connecting w1"), 1);
  EXPECT_EQ(recorder.Count("pipe connected w1"), 1);
  // One for the calls, and one for each look at whether a member lives.
  EXPECT_GE(recorder.Count("pipe accepted w0"), 1);
  EXPECT_EQ(recorder.Count("shutdown"), 2);
}

}  // namespace
}  // namespace reprise::testing

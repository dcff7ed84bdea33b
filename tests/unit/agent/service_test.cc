// What a service needs beside calls: requests that wait until it serves,
// draining, one-way calls, deadlines that nested calls inherit, and word of
// when memory may be used again.

#include <atomic>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "agent/agent.h"
#include "agent/device/tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"

namespace reprise::testing {
namespace {

using ::testing::HasSubstr;

constexpr auto kCall = MessageType::kScriptCall;

// A tensor of 1 MiB whose memory is the test's, and word of its deleter.
struct Adopted {
  explicit Adopted(std::atomic<int>& deleted)
      : bytes(size_t{1} << 20, char{7}) {
    tensor = *MakeTensor(DType::kUInt8, {0});
    tensor.sizes = {static_cast<int64_t>(bytes.size())};
    tensor.storage =
        AdoptCpu(bytes.data(), bytes.size(), [this, &deleted](void* data) {
          EXPECT_EQ(data, bytes.data());
          ++deleted;
        });
  }
  std::vector<char> bytes;
  Tensor tensor;
};

// Waits until the counter says so; gives up at `Soon()`.
bool Reaches(const std::atomic<int>& counter, int value) {
  const absl::Time deadline = Soon();
  while (counter != value) {
    if (RealRuntime().Now() > deadline) return false;
    RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(1));
  }
  return true;
}

TEST(StartPausedTest, RequestsWaitUntilTheAgentServes) {
  std::atomic<int> handled = 0;
  Cluster cluster;
  cluster.Start(
      2, Blocking([&](Message request, const RequestInfo&) {
        ++handled;
        request.type = MessageType::kScriptRet;
        return absl::StatusOr<Message>(std::move(request));
      }),
      [](AgentOptions& options) { options.start_paused = options.id == 1; });
  std::vector<Future> calls;
  for (int i = 0; i < 20; ++i) {  // more than there are worker threads
    calls.push_back(cluster[0].Send("w1", Request("x")));
  }
  while (cluster[1].GetMetrics()["agent.waiting_requests"] < 20) {
    ASSERT_LT(handled, 1);
    RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(1));
  }
  EXPECT_EQ(handled, 0);
  cluster[1].Serve();
  EXPECT_TRUE(WhenAll(RealRuntime(), calls).status().ok());
  EXPECT_EQ(handled, 20);
  EXPECT_EQ(cluster[1].GetMetrics()["agent.waiting_requests"], 0);
}

TEST(StartPausedTest, AShutdownDropsWhatWaits) {
  Cluster cluster;
  cluster.Start(2, Echo(), [](AgentOptions& options) {
    options.start_paused = options.id == 1;
  });
  const Future call = cluster[0].Send("w1", Request("x"));
  while (cluster[1].GetMetrics()["agent.waiting_requests"] < 1) {
    RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(1));
  }
  EXPECT_TRUE(cluster[1].Shutdown(Soon()).ok());
  EXPECT_FALSE(call.status().ok());
}

TEST(DrainTest, RefusesNewRequestsAndFinishesTheOthers) {
  Gate gate;
  std::atomic<int> started = 0;
  Cluster cluster;
  cluster.Start(2, [&](Message request, const RequestInfo&, Reply reply) {
    ++started;
    if (request.payload == "slow") gate.Wait();
    request.type = MessageType::kScriptRet;
    reply(std::move(request));
  });
  const Future slow = cluster[0].Send("w1", Request("slow"));
  ASSERT_TRUE(Reaches(started, 1));
  const absl::Status early =
      cluster[1].Drain(RealRuntime().Now() + absl::Milliseconds(10));
  EXPECT_TRUE(absl::IsDeadlineExceeded(early)) << early;
  EXPECT_THAT(std::string(early.message()), HasSubstr("1 requests"));

  const absl::Status refused = cluster[0].Send("w1", Request("quick")).status();
  EXPECT_TRUE(absl::IsUnavailable(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("w1 is draining"));
  EXPECT_EQ(CallErrorOf(refused),
            (CallError{CallErrorSource::kRemoteAgent, false, true}));
  EXPECT_EQ(started, 1);

  gate.Open();
  EXPECT_TRUE(slow.status().ok());
  EXPECT_TRUE(cluster[1].Drain(Soon()).ok());
  // It can serve again, which a patient caller lives to see.
  const Future patient =
      cluster[0].SendWithRetries("w1", Request("quick"), {},
                                 {.max_retries = 1000,
                                  .retry_duration = absl::Milliseconds(1),
                                  .backoff = 1});
  cluster[1].Serve();
  EXPECT_TRUE(patient.status().ok()) << patient.status();
}

TEST(OneWayTest, IsDoneWhenItIsWritten) {
  Gate gate;
  std::atomic<int> started = 0;
  Cluster cluster;
  cluster.Start(2, [&](Message request, const RequestInfo&, Reply reply) {
    ++started;
    gate.Wait();
    request.type = MessageType::kScriptRet;
    reply(std::move(request));
  });
  const Future sent = cluster[0].SendOneWay("w1", Request("x"));
  // The handler does not answer before the gate is open.
  EXPECT_TRUE(sent.status().ok()) << sent.status();
  EXPECT_EQ(sent.result()->payload, "");
  ASSERT_TRUE(Reaches(started, 1));
  EXPECT_EQ(cluster[0].GetMetrics()["agent.client_active_calls"], 1);
  gate.Open();
  cluster.OnEach(
      [&](int64_t id) { EXPECT_TRUE(cluster[id].Join(Soon()).ok()); });
  EXPECT_EQ(cluster[0].GetMetrics()["agent.client_active_calls"], 0);
  EXPECT_EQ(cluster[0].GetMetrics()["agent.one_way_failures"], 0);
}

TEST(OneWayTest, WhatKeepsItFromBeingWrittenIsItsError) {
  Cluster cluster;
  cluster.Start(1, Echo());
  EXPECT_TRUE(
      absl::IsNotFound(cluster[0].SendOneWay("nobody", Request("x")).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      cluster[0]
          .SendOneWay("w0", Message{MessageType::kScriptRet, "", {}})
          .status()));
}

// All threads of both wait for calls that only those threads could serve. The
// calls have no timeout: only the deadline of the requests that they serve ends
// them.
TEST(NestedDeadlineTest, APoolThatStarvesRecoversAtTheDeadlineOfItsRequests) {
  constexpr int kThreads = 2;
  std::vector<Agent*> agents(2);
  std::atomic<int> nested = 0;
  std::atomic<int> ended = 0;
  Cluster cluster;
  cluster.Start(
      2,
      [&](Message request, const RequestInfo& info, Reply reply) {
        if (request.payload != "plain") {
          const int self = request.payload == "to w0" ? 0 : 1;
          // Until every thread of both has got here, or it is too late.
          ++nested;
          while (nested < 2 * kThreads && !info.IsCancelled()) {
            RealRuntime().SleepUntil(RealRuntime().Now() +
                                     absl::Milliseconds(1));
          }
          const Future call =
              agents[self]->Send(self == 0 ? "w1" : "w0", Request("plain"),
                                 {.timeout = absl::InfiniteDuration()});
          // The last ones may be served by a thread that is free again.
          if (absl::IsDeadlineExceeded(call.status())) ++ended;
        }
        request.type = MessageType::kScriptRet;
        reply(std::move(request));
      },
      [](AgentOptions& options) { options.num_worker_threads = kThreads; });
  agents = {&cluster[0], &cluster[1]};
  std::vector<Future> outer;
  for (int i = 0; i < kThreads; ++i) {
    outer.push_back(
        cluster[0].Send("w1", Request("to w1"), {.timeout = absl::Seconds(1)}));
    outer.push_back(
        cluster[1].Send("w0", Request("to w0"), {.timeout = absl::Seconds(1)}));
  }
  for (const Future& call : outer) EXPECT_TRUE(call.Wait(Soon()));
  const Future plain = cluster[0].Send("w1", Request("plain"));
  ASSERT_TRUE(plain.Wait(Soon()));
  EXPECT_TRUE(plain.status().ok()) << plain.status();
  EXPECT_GE(ended, 1);
}

TEST(NestedDeadlineTest, DetachedCallsGoOnAndOtherThreadsInheritByRequest) {
  Gate gate;
  Agent* agent = nullptr;
  std::vector<Future> made;
  std::atomic<int> done = 0;
  Cluster cluster;
  cluster.Start(2, [&](Message request, const RequestInfo& info, Reply reply) {
    if (request.payload == "wait") {
      gate.Wait();
    } else {
      const CallOptions forever{.timeout = absl::InfiniteDuration()};
      CallOptions detached = forever;
      detached.detached = true;
      made.push_back(agent->Send("w0", Request("wait"), detached));
      // Another thread knows of no request.
      RealRuntime()
          .StartThread(
              "other",
              [&] {
                made.push_back(agent->Send("w0", Request("wait"), forever));
                made.push_back(
                    agent->Send("w0", Request("wait"), info.Inherit(forever)));
              })
          ->Join();
      made.push_back(agent->Send("w0", Request("wait"), forever));
      ++done;
    }
    request.type = MessageType::kScriptRet;
    reply(std::move(request));
  });
  agent = &cluster[1];
  const Future outer =
      cluster[0].Send("w1", Request("nest"), {.timeout = absl::Seconds(2)});
  ASSERT_TRUE(Reaches(done, 1));
  ASSERT_EQ(made.size(), 4u);
  EXPECT_TRUE(absl::IsDeadlineExceeded(made[2].status()));
  EXPECT_TRUE(absl::IsDeadlineExceeded(made[3].status()));
  EXPECT_FALSE(made[0].done());
  EXPECT_FALSE(made[1].done());
  gate.Open();
  EXPECT_TRUE(made[0].status().ok());
  EXPECT_TRUE(made[1].status().ok());
}

TEST(DeadlineTest, ACallThatComesTooLateIsNotMade) {
  std::atomic<int> handled = 0;
  Cluster cluster;
  cluster.Start(1, [&](Message request, const RequestInfo&, Reply reply) {
    ++handled;
    reply(Message{MessageType::kScriptRet, request.payload, {}});
  });
  const CallOptions late{.deadline = RealRuntime().Now()};
  for (const Future& call :
       {cluster[0].Send("w0", Request("x"), late),
        cluster[0].SendWithRetries("w0", Request("x"), late)}) {
    EXPECT_TRUE(absl::IsDeadlineExceeded(call.status())) << call.status();
    EXPECT_EQ(CallErrorOf(call.status()),
              (CallError{CallErrorSource::kDeadline, false, false}));
  }
  EXPECT_EQ(handled, 0);
}

// The memory of a request is told to be free after its write, that of a reply
// after its own; neither is copied.
TEST(ReleaseTest, TellsWhenTheMemoryOfRequestsAndRepliesIsFree) {
  std::atomic<int> deleted = 0;
  std::atomic<int> released = 0;
  Adopted of_request(deleted);
  Adopted of_reply(deleted);
  Tensor answer = std::move(of_reply.tensor);
  Cluster cluster;
  cluster.Start(2, [&](Message request, const RequestInfo&, Reply reply) {
    EXPECT_EQ(request.release_guard, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(request.tensors[0].storage->data()) %
                  kCpuAlignment,
              0u);
    Message result{MessageType::kScriptRet, "", {std::move(answer)}};
    result.release_guard = OnReleased([&] { ++released; });
    reply(std::move(result));
  });
  Message request{kCall, "", {std::move(of_request.tensor)}};
  request.release_guard = OnReleased([&] { ++released; });
  const Future call = cluster[0].Send("w1", std::move(request));
  ASSERT_TRUE(call.status().ok()) << call.status();
  EXPECT_TRUE(Reaches(deleted, 2));
  EXPECT_TRUE(Reaches(released, 2));
  const auto* bytes =
      static_cast<const char*>(call.result()->tensors[0].storage->data());
  EXPECT_EQ(std::string(bytes, 16), std::string(16, char{7}));
}

TEST(ReleaseTest, ARefusedRequestIsReleasedAtOnce) {
  std::atomic<int> released = 0;
  Cluster cluster;
  cluster.Start(1, Echo());
  Message request = Request("x");
  request.release_guard = OnReleased([&] { ++released; });
  EXPECT_TRUE(
      absl::IsNotFound(cluster[0].Send("nobody", std::move(request)).status()));
  EXPECT_EQ(released, 1);
}

TEST(AllocatorTest, LargeTensorsComeInMemoryThatIsUsedAgain) {
  Cluster cluster;
  cluster.Start(2, Echo());
  for (int i = 0; i < 4; ++i) {
    Message request = Request("x");
    request.tensors.push_back(*MakeTensor(DType::kUInt8, {int64_t{4} << 20}));
    const Future call = cluster[0].Send("w1", std::move(request));
    ASSERT_TRUE(call.status().ok()) << call.status();
  }
  const auto metrics = cluster[0].GetMetrics();
  EXPECT_GE(metrics.at("agent.cache_hits"), 2);
  EXPECT_LE(metrics.at("agent.cache_misses"), 2);
  // Once the thread that completed the last call has let go of it.
  const absl::Time deadline = Soon();
  while (cluster[0].GetMetrics()["agent.cached_bytes"] < int64_t{4} << 20) {
    ASSERT_LT(RealRuntime().Now(), deadline);
    RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(1));
  }
}

TEST(AllocatorTest, OnesOwnIsUsed) {
  class Counting final : public CpuAllocator {
   public:
    absl::StatusOr<std::shared_ptr<Storage>> Allocate(size_t size) override {
      ++count;
      return AllocateCpu(size);
    }
    std::atomic<int> count = 0;
  };
  const auto allocator = std::make_shared<Counting>();
  Cluster cluster;
  cluster.Start(1, Echo(),
                [&](AgentOptions& options) { options.allocator = allocator; });
  Message request = Request("x");
  request.tensors.push_back(*MakeTensor(DType::kUInt8, {100}));
  ASSERT_TRUE(cluster[0].Send("w0", std::move(request)).status().ok());
  EXPECT_EQ(allocator->count, 2);  // the request, and the reply
}

TEST(NewsTest, ConnectionsThatWorkAndThatFailAreTold) {
  std::atomic<int> up = 0;
  std::atomic<int> down = 0;
  Cluster cluster;
  cluster.Start(2, Echo(), [&](AgentOptions& options) {
    if (options.id != 0) return;
    options.on_peer_change = [&](const PeerChange& change) {
      EXPECT_EQ(change.name, "w1");
      EXPECT_EQ(change.id, 1);
      EXPECT_EQ(change.cause.ok(), change.up);
      ++(change.up ? up : down);
      throw std::runtime_error("a callback may throw");
    };
  });
  ASSERT_TRUE(cluster[0].Send("w1", Request("x")).status().ok());
  EXPECT_TRUE(Reaches(up, 1));
  EXPECT_EQ(down, 0);
  cluster.Stop(1);
  EXPECT_TRUE(Reaches(down, 1));
  EXPECT_EQ(up, 1);
}

TEST(NewsTest, AMemberIsToldOfItsEvictionAndNotOfItsOwnLeave) {
  const std::shared_ptr<Store> store = MakeMemoryStore(RealRuntime());
  std::atomic<int> told = 0;
  const auto join = [&] {
    AgentOptions options = Dynamic("a", 0);
    options.on_evicted = [&](const absl::Status& status) {
      EXPECT_THAT(std::string(status.message()), HasSubstr("evicted"));
      ++told;
    };
    return *Agent::Start({&RealRuntime(), store, &RealTransports()}, options,
                         Echo(), Soon());
  };
  {
    const std::unique_ptr<Agent> a = join();
    EXPECT_TRUE(a->Leave(Soon()).ok());
    EXPECT_TRUE(a->Shutdown(Soon()).ok());
  }
  EXPECT_EQ(told, 0);
  const std::unique_ptr<Agent> a = join();
  // As another worker does that takes it for dead.
  ASSERT_TRUE(store->Set("names/_ALL_WORKER_INFOS", "", Soon()).ok());
  ASSERT_TRUE(store->Set("reprise/members", "members-1 100\n", Soon()).ok());
  EXPECT_TRUE(Reaches(told, 1));
}

TEST(MetricsTest, TheTimesOfTheHandlerAreCounted) {
  Cluster cluster;
  cluster.Start(2, Echo());
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(cluster[0].Send("w1", Request("x")).status().ok());
  }
  EXPECT_TRUE(cluster[1].Drain(Soon()).ok());
  for (const char* family : {"queue", "handler"}) {
    EXPECT_THAT(cluster[1].GetPrometheusText(),
                HasSubstr(std::string("reprise_server_") + family +
                          "_seconds_count{worker=\"w1\"} 3"));
  }
}

}  // namespace
}  // namespace reprise::testing

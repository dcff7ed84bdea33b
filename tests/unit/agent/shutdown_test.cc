// A shutdown returns by its deadline, whatever functions of the user's, the
// store and the peers do; and what it leaves behind does no harm.

#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/agent.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"
#include "tests/unit/agent/hooked_store.h"
#include "tests/unit/agent/recorder.h"
#include "tests/unit/runtime/scarce_runtime.h"

namespace reprise::testing {
namespace {

using ::testing::HasSubstr;

// How long the shutdowns here may take, and how much longer a test lets them:
// far less than any wait inside the agent that they must not fall into.
constexpr absl::Duration kPatience = absl::Milliseconds(200);
constexpr absl::Duration kSlack = absl::Seconds(4);

std::string Text(const absl::Status& status) {
  return std::string(status.message());
}

absl::Time In(absl::Duration duration) {
  return RealRuntime().Now() + duration;
}

// Runs `f`, which must return soon after `deadline`.
template <typename F>
auto InTime(absl::Time deadline, F f) {
  auto result = f();
  EXPECT_LE(RealRuntime().Now() - deadline, kSlack);
  return result;
}

absl::Status ShutDownInTime(Agent& agent) {
  const absl::Time deadline = In(kPatience);
  return InTime(deadline, [&] { return agent.Shutdown(deadline); });
}

// A store whose accesses hang while told to, whatever their deadlines.
class HangingStore {
 public:
  HangingStore()
      : store_(MakeHookedStore(
            MakeMemoryStore(RealRuntime()),
            [state = state_](const std::string&,
                             const std::string&) -> absl::Status {
              ++state->accesses;
              if (state->hangs) state->gate.Wait();
              return absl::OkStatus();
            },
            nullptr)) {}
  ~HangingStore() { state_->gate.Open(); }

  const std::shared_ptr<Store>& store() const { return store_; }
  void Hang() { state_->hangs = true; }
  int accesses() const { return state_->accesses; }

 private:
  // Shared with the accesses, which an agent may have left behind.
  struct State {
    std::atomic<bool> hangs = false;
    std::atomic<int> accesses = 0;
    Gate gate;
  };
  const std::shared_ptr<State> state_ = std::make_shared<State>();
  const std::shared_ptr<Store> store_;
};

std::unique_ptr<Agent> StartMember(const std::string& name,
                                   const std::shared_ptr<Store>& store,
                                   RequestHandler handler = Echo(),
                                   const Cluster::Customize& customize = {}) {
  AgentOptions options = Dynamic(name, kAnyId);
  if (customize) customize(options);
  auto agent = Agent::Start({&RealRuntime(), store, &RealTransports()},
                            std::move(options), std::move(handler), Soon());
  EXPECT_TRUE(agent.ok()) << agent.status();
  return *std::move(agent);
}

TEST(ShutdownDeadlineTest, AHandlerThatHangs) {
  Gate entered, leave;
  std::atomic<bool> returned = false;
  Cluster cluster;
  cluster.Start(2, [&](const Message&, const RequestInfo&, Reply) {
    entered.Open();
    leave.Wait();
    returned = true;
  });
  const Future call = cluster[0].Send("w1", Request(""));
  ASSERT_TRUE(entered.Wait());
  const absl::Status status = ShutDownInTime(cluster[1]);
  EXPECT_FALSE(returned);
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(Text(status), HasSubstr("agent w1: 1 handlers were still"));
  leave.Open();
  EXPECT_EQ(cluster[1].Shutdown(Soon()), absl::OkStatus());
  EXPECT_TRUE(returned);
}

TEST(ShutdownDeadlineTest, RequestsThatWaitForAWorkerAreDropped) {
  Gate entered, leave;
  std::atomic<int> runs = 0;
  Recorder recorder;
  Cluster cluster;
  cluster.set_observer(&recorder);
  cluster.Start(
      2,
      [&](const Message&, const RequestInfo&, Reply) {
        ++runs;
        entered.Open();
        leave.Wait();
      },
      [](AgentOptions& options) { options.num_worker_threads = 1; });
  std::vector<Future> calls;
  for (int i = 0; i < 3; ++i) {
    calls.push_back(cluster[0].Send("w1", Request("")));
  }
  ASSERT_TRUE(entered.Wait());
  while (cluster[1].GetMetrics()["agent.worker_queue"] < 2) {
    RealRuntime().SleepUntil(In(absl::Milliseconds(1)));
  }
  EXPECT_THAT(Text(ShutDownInTime(cluster[1])), HasSubstr("handlers"));
  leave.Open();
  EXPECT_EQ(cluster[1].Shutdown(Soon()), absl::OkStatus());
  EXPECT_EQ(runs, 1);
}

// Whatever the agent's code beneath the handler uses outlives it.
TEST(ShutdownDeadlineTest, AHandlerThatOutlivesItsAgent) {
  Gate entered, leave, answered;
  Cluster cluster;
  cluster.Start(2, [&](Message request, const RequestInfo& info, Reply reply) {
    entered.Open();
    leave.Wait();
    EXPECT_TRUE(info.IsCancelled());
    request.type = MessageType::kScriptRet;
    reply(std::move(request));
    answered.Open();
  });
  const Future call = cluster[0].Send("w1", Request(""));
  ASSERT_TRUE(entered.Wait());
  const absl::Time deadline = In(absl::Seconds(1));
  cluster.Stop(1);
  EXPECT_LE(RealRuntime().Now() - deadline, kSlack);
  EXPECT_TRUE(call.Wait(Soon()));
  EXPECT_TRUE(absl::IsUnavailable(call.status())) << call.status();
  leave.Open();
  EXPECT_TRUE(answered.Wait());
}

TEST(ShutdownDeadlineTest, AKeyedHandlerLearnsOfIt) {
  Gate entered;
  Cluster cluster;
  cluster.Start(
      2, Blocking([&](const Message&,
                      const RequestInfo& info) -> absl::StatusOr<Message> {
        entered.Open();
        const absl::Time end = Soon();
        while (!info.IsCancelled() && RealRuntime().Now() < end) {
          RealRuntime().SleepUntil(In(absl::Milliseconds(1)));
        }
        return absl::CancelledError("");
      }));
  const Future call =
      cluster[0].Send("w1", Request(""), {.idempotency_key = "k"});
  ASSERT_TRUE(entered.Wait());
  cluster.Stop(0);
  const absl::Time start = RealRuntime().Now();
  EXPECT_EQ(cluster[1].Shutdown(Soon()), absl::OkStatus());
  EXPECT_LE(RealRuntime().Now() - start, kSlack);
}

TEST(ShutdownDeadlineTest, ACallbackThatHangs) {
  Gate answer, entered, leave;
  Cluster cluster;
  cluster.Start(2, EchoAfter(answer));
  const Future call = cluster[0].Send("w1", Request(""));
  call.Then([&](const Future::Result&) {
    entered.Open();
    leave.Wait();
  });
  answer.Open();
  ASSERT_TRUE(entered.Wait());
  const absl::Status status = ShutDownInTime(cluster[0]);
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(Text(status), HasSubstr("agent w0: 1 callbacks of calls"));
  leave.Open();
  EXPECT_EQ(cluster[0].Shutdown(Soon()), absl::OkStatus());
}

TEST(ShutdownDeadlineTest, ACallbackThatWaitsForACallOfItsOwn) {
  HangingStore hanging;
  Gate told, kept;
  std::atomic<Agent*> self = nullptr;
  absl::Status hello;
  std::unique_ptr<Agent> w0 =
      StartMember("w0", hanging.store(), Echo(), [&](AgentOptions& options) {
        options.rpc_timeout = absl::ZeroDuration();
        options.on_membership_change = [&](const MembershipChange& change) {
          if (!change.joined) return;
          while (self == nullptr) RealRuntime().SleepUntil(In(kPatience));
          const Future call =
              self.load()->Send(change.worker.name, Request("hello"));
          told.Open();
          hello = call.status();
        };
      });
  self = w0.get();
  std::unique_ptr<Agent> w1 = StartMember(
      "w1", hanging.store(),
      Blocking([&](Message, const RequestInfo&) -> absl::StatusOr<Message> {
        kept.Wait();
        return absl::CancelledError("");
      }));
  ASSERT_TRUE(told.Wait());
  const absl::Time start = RealRuntime().Now();
  EXPECT_EQ(w0->Shutdown(Soon()), absl::OkStatus());
  EXPECT_LE(RealRuntime().Now() - start, kSlack);
  EXPECT_TRUE(absl::IsCancelled(hello)) << hello;
  kept.Open();
}

TEST(ShutdownDeadlineTest, AMembershipCallbackThatHangs) {
  HangingStore hanging;
  Gate entered, leave, left;
  std::unique_ptr<Agent> w0 =
      StartMember("w0", hanging.store(), Echo(), [&](AgentOptions& options) {
        options.on_membership_change = [&](const MembershipChange&) {
          entered.Open();
          leave.Wait();
          left.Open();
        };
      });
  std::unique_ptr<Agent> w1 = StartMember("w1", hanging.store());
  ASSERT_TRUE(entered.Wait());
  EXPECT_THAT(Text(ShutDownInTime(*w0)), HasSubstr("on_membership_change"));
  w0 = nullptr;  // the callback goes on, and its thread owns what it needs
  leave.Open();
  EXPECT_TRUE(left.Wait());
}

TEST(ShutdownDeadlineTest, AStoreThatHangs) {
  HangingStore hanging;
  std::unique_ptr<Agent> w0 = StartMember("w0", hanging.store());
  hanging.Hang();
  const int before = hanging.accesses();
  while (hanging.accesses() == before) {
    RealRuntime().SleepUntil(In(absl::Milliseconds(1)));
  }
  const absl::Status status = ShutDownInTime(*w0);
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(Text(status), HasSubstr("1 accesses to the store"));
  const absl::Time start = RealRuntime().Now();
  w0 = nullptr;
  EXPECT_LE(RealRuntime().Now() - start, absl::Seconds(1) + kSlack);
}

TEST(ShutdownDeadlineTest, JoinLeaveAndStartInAStoreThatHangs) {
  HangingStore hanging;
  Cluster cluster(hanging.store());
  cluster.Start(2, Echo());
  HangingStore other;
  std::unique_ptr<Agent> member = StartMember("w0", other.store());
  hanging.Hang();
  other.Hang();
  const absl::Time deadline = In(kPatience);
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      InTime(deadline, [&] { return cluster[0].Join(deadline); })));
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      InTime(deadline, [&] { return member->Leave(deadline); })));
  const auto started = InTime(deadline, [&] {
    return Agent::Start({&RealRuntime(), other.store(), &RealTransports()},
                        Dynamic("w1", kAnyId), Echo(), deadline)
        .status();
  });
  EXPECT_TRUE(absl::IsDeadlineExceeded(started)) << started;
}

TEST(ShutdownDeadlineTest, ConnectionsThatWaitForTheStore) {
  HangingStore hanging;
  Cluster cluster(hanging.store());
  cluster.Start(8, Echo());
  for (int id = 1; id < 8; ++id) {
    const Future call = cluster[0].Send(static_cast<WorkerId>(id), Request(""));
    ASSERT_TRUE(call.status().ok()) << call.status();
    cluster.Stop(id);
  }
  hanging.Hang();
  std::vector<Future> calls;
  for (int id = 1; id < 8; ++id) {
    // Its connection was found broken, and the next one asks the store.
    while (
        cluster[0].GetDebugInfo()[absl::StrCat("peer.w", id, ".connection")] !=
        "failed: the next call connects") {
      RealRuntime().SleepUntil(In(absl::Milliseconds(1)));
    }
    calls.push_back(cluster[0].Send(static_cast<WorkerId>(id), Request(""),
                                    {.timeout = absl::ZeroDuration()}));
  }
  const absl::Status status = ShutDownInTime(cluster[0]);
  EXPECT_TRUE(status.ok() || absl::IsDeadlineExceeded(status)) << status;
  for (const Future& call : calls) EXPECT_TRUE(call.done());
}

TEST(KnownAddressTest, IsUsedWithoutTheStore) {
  HangingStore hanging;
  Cluster cluster(hanging.store());
  cluster.Start(3, Echo());
  hanging.Hang();
  const int before = hanging.accesses();
  for (const char* peer : {"w1", "w2"}) {
    // With a key, which needs to know what the peer understands.
    const Future call =
        cluster[0].Send(peer, Request(""), {.idempotency_key = "k"});
    ASSERT_TRUE(call.Wait(In(kSlack)));
    EXPECT_TRUE(call.status().ok()) << call.status();
  }
  EXPECT_EQ(hanging.accesses(), before);
}

TEST(KnownAddressTest, IsUsedWithoutTheStoreInADynamicGroup) {
  HangingStore hanging;
  std::unique_ptr<Agent> w0 = StartMember("w0", hanging.store());
  std::unique_ptr<Agent> w1 = StartMember("w1", hanging.store());
  ASSERT_TRUE(w0->WaitForWorker("w1", Soon()).ok());
  hanging.Hang();
  const Future call = w0->Send("w1", Request(""), {.idempotency_key = "k"});
  ASSERT_TRUE(call.Wait(In(kSlack)));
  EXPECT_TRUE(call.status().ok()) << call.status();
}

TEST(KnownAddressTest, IsNotHeldUpByLookupsOfOthers) {
  HangingStore hanging;
  Cluster cluster(hanging.store());
  cluster.Start(8, Echo());
  for (int id = 1; id < 7; ++id) cluster.Stop(id);
  hanging.Hang();
  std::vector<Future> calls;
  for (int id = 1; id < 7; ++id) {
    const auto peer = static_cast<WorkerId>(id);
    const Future refused = cluster[0].Send(peer, Request(""));
    ASSERT_TRUE(refused.Wait(In(kSlack)));
    EXPECT_TRUE(absl::IsUnavailable(refused.status())) << refused.status();
    calls.push_back(cluster[0].Send(peer, Request("")));
  }
  const Future call = cluster[0].Send("w7", Request(""));
  ASSERT_TRUE(call.Wait(In(kSlack)));
  EXPECT_TRUE(call.status().ok()) << call.status();
}

TEST(MembershipCallbackTest, MayWaitForANewcomer) {
  HangingStore hanging;
  std::atomic<Agent*> self = nullptr;
  Gate told, waited;
  absl::Status found;
  std::unique_ptr<Agent> w0 =
      StartMember("w0", hanging.store(), Echo(), [&](AgentOptions& options) {
        options.on_membership_change = [&](const MembershipChange& change) {
          if (change.worker.name != "w1") return;
          told.Open();
          while (self == nullptr) RealRuntime().SleepUntil(In(kPatience));
          found = self.load()->WaitForWorker("w2", Soon()).status();
          waited.Open();
        };
      });
  self = w0.get();
  std::unique_ptr<Agent> w1 = StartMember("w1", hanging.store());
  ASSERT_TRUE(told.Wait());
  std::unique_ptr<Agent> w2 = StartMember("w2", hanging.store());
  ASSERT_TRUE(waited.Wait());
  EXPECT_EQ(found, absl::OkStatus());
}

TEST(MembershipCallbackTest, HearsAllChangesInTheirOrderHoweverSlowItIs) {
  HangingStore hanging;
  Gate entered, leave, heard_all;
  std::vector<std::string> heard;
  std::unique_ptr<Agent> w0 =
      StartMember("w0", hanging.store(), Echo(), [&](AgentOptions& options) {
        options.on_membership_change = [&](const MembershipChange& change) {
          heard.push_back(
              absl::StrCat(change.worker.name, change.joined ? "+" : "-"));
          entered.Open();
          leave.Wait();
          if (heard.size() == 3) heard_all.Open();
        };
      });
  std::unique_ptr<Agent> w1 = StartMember("w1", hanging.store());
  ASSERT_TRUE(entered.Wait());
  // While it blocks, calls find those who come.
  std::unique_ptr<Agent> w2 = StartMember("w2", hanging.store());
  ASSERT_TRUE(w0->WaitForWorker("w2", Soon()).ok());
  EXPECT_TRUE(w0->Send("w2", Request("")).status().ok());
  EXPECT_TRUE(w1->Leave(Soon()).ok());
  while (w0->GetWorkerInfo("w1").ok()) {
    RealRuntime().SleepUntil(In(absl::Milliseconds(1)));
  }
  leave.Open();
  ASSERT_TRUE(heard_all.Wait());
  EXPECT_THAT(heard, ::testing::ElementsAre("w1+", "w2+", "w1-"));
}

TEST(MembershipCallbackTest, MayThrow) {
  HangingStore hanging;
  Gate second;
  std::unique_ptr<Agent> w0 =
      StartMember("w0", hanging.store(), Echo(), [&](AgentOptions& options) {
        options.on_membership_change = [&](const MembershipChange& change) {
          if (change.worker.name == "w2") second.Open();
          throw std::runtime_error("thrown by a test");
        };
      });
  std::unique_ptr<Agent> w1 = StartMember("w1", hanging.store());
  std::unique_ptr<Agent> w2 = StartMember("w2", hanging.store());
  EXPECT_TRUE(second.Wait());
}

TEST(NoThreadTest, IsAnErrorOfTheStart) {
  // Enough for the store, and for some of the agent's own.
  for (int threads = 0; threads < 5; ++threads) {
    ScarceRuntime runtime(threads);
    const auto agent = Agent::Start(
        {&runtime, MakeMemoryStore(runtime), &RealTransports()},
        OptionsFor(0, 1), Echo(), runtime.Now() + absl::Milliseconds(200));
    ASSERT_FALSE(agent.ok()) << threads;
    EXPECT_TRUE(absl::IsResourceExhausted(agent.status()) ||
                absl::IsDeadlineExceeded(agent.status()))
        << agent.status();
    EXPECT_THAT(Text(agent.status()), HasSubstr("thread"));
  }
}

TEST(NoThreadTest, TheAgentGoesOnWithTheThreadsItHas) {
  Gate gate;
  ScarceRuntime runtime(100);
  auto agent =
      Agent::Start({&runtime, MakeMemoryStore(runtime), &RealTransports()},
                   OptionsFor(0, 1), EchoAfter(gate), Soon());
  ASSERT_TRUE(agent.ok()) << agent.status();
  runtime.Allow(0);
  std::vector<Future> calls;
  for (int i = 0; i < 20; ++i) {
    calls.push_back((*agent)->Send("w0", Request("")));
  }
  while (runtime.refused() == 0) {
    RealRuntime().SleepUntil(In(absl::Milliseconds(1)));
  }
  gate.Open();
  for (const Future& call : calls) {
    ASSERT_TRUE(call.Wait(Soon()));
    EXPECT_TRUE(call.status().ok()) << call.status();
  }
  EXPECT_EQ((*agent)->Shutdown(Soon()), absl::OkStatus());
}

}  // namespace
}  // namespace reprise::testing

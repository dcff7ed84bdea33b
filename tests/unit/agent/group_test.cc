// Dynamic groups, over real transports and a store in memory.

#include <atomic>
#include <string>
#include <vector>

#include "agent/agent.h"
#include "agent/store/memory_store.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"
#include "tests/unit/agent/hooked_store.h"

namespace reprise {
namespace {

using ::reprise::testing::Dynamic;
using ::reprise::testing::Echo;
using ::reprise::testing::Gate;
using ::reprise::testing::MakeHookedStore;
using ::reprise::testing::OptionsFor;
using ::reprise::testing::Request;
using ::reprise::testing::Soon;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class GroupTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<Agent>> Join(AgentOptions options,
                                              absl::Time deadline = Soon()) {
    return Agent::Start({&RealRuntime(), store_, &RealTransports()},
                        std::move(options), Echo(), deadline);
  }
  std::string Value(std::string_view key) {
    return store_->TryGet(key, Soon()).value_or("(none)");
  }

  std::shared_ptr<Store> store_ = MakeMemoryStore(RealRuntime());
};

TEST_F(GroupTest, MembersComeAndGo) {
  Gate joined;
  Gate left;
  AgentOptions options = Dynamic("a", 3);
  options.on_membership_change = [&](const MembershipChange& change) {
    if (change.worker == WorkerInfo{"b", 0}) {
      (change.joined ? joined : left).Open();
    }
  };
  auto a = Join(options);
  ASSERT_TRUE(a.ok()) << a.status();
  EXPECT_EQ((*a)->self(), (WorkerInfo{"a", 3}));
  auto b = Join(Dynamic("b", kAnyId));
  ASSERT_TRUE(b.ok()) << b.status();
  EXPECT_EQ((*b)->self(), (WorkerInfo{"b", 0}));
  ASSERT_TRUE((*a)->WaitForWorker("b", Soon()).ok());
  EXPECT_THAT((*a)->GetWorkerInfos(),
              ElementsAre(WorkerInfo{"b", 0}, WorkerInfo{"a", 3}));
  EXPECT_TRUE((*a)->Send("b", Request("x")).status().ok());
  EXPECT_TRUE((*b)->Send(WorkerId{3}, Request("x")).status().ok());

  ASSERT_TRUE((*b)->Leave(Soon()).ok());
  EXPECT_EQ((*b)->Shutdown(Soon()), absl::OkStatus());
  const absl::Status gone = (*a)->Send("b", Request("x")).status();
  EXPECT_EQ(gone.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(gone.message()), HasSubstr("has left the group"));
  EXPECT_TRUE(joined.Wait());
  EXPECT_TRUE(left.Wait());
  EXPECT_TRUE((*a)->JoinForShutdown(Soon()).ok());
}

TEST_F(GroupTest, KeysAreThoseOfStockWorkers) {
  auto a = Join(Dynamic("a", 0));
  ASSERT_TRUE(a.ok()) << a.status();
  EXPECT_EQ(Value("rpcIsStaticGroup"), "false");
  EXPECT_EQ(Value("names/0"), "a");
  EXPECT_EQ(Value("names/_ALL_WORKER_INFOS"), "a-0,");
  EXPECT_EQ(Value("RpcGroupManagementToken"), "");
  EXPECT_EQ(Value("Token_for_a_join"), "Done");
  EXPECT_THAT(Value("addrs/a"), HasSubstr("uv://127.0.0.1:"));
  ASSERT_TRUE((*a)->Leave(Soon()).ok());
  EXPECT_EQ(Value("names/0"), "");
  EXPECT_EQ(Value("names/_ALL_WORKER_INFOS"), "");
  EXPECT_EQ(Value("addrs/a"), "");
  EXPECT_EQ(Value("RpcGroupManagementToken"), "");
  EXPECT_EQ(Value("Token_for_a_leave"), "Done");
}

TEST_F(GroupTest, StockMembersAreSeenAndNamesWithDashesKeptFromThem) {
  ASSERT_TRUE(store_->Set("names/_ALL_WORKER_INFOS", "stock-5,", Soon()).ok());
  auto a = Join(Dynamic("a-b", kAnyId));
  ASSERT_TRUE(a.ok()) << a.status();
  EXPECT_THAT((*a)->GetWorkerInfos(),
              ElementsAre(WorkerInfo{"a-b", 0}, WorkerInfo{"stock", 5}));
  EXPECT_EQ(Value("names/_ALL_WORKER_INFOS"), "stock-5,");
}

TEST_F(GroupTest, ANameOrAnIdThatLivesIsTaken) {
  auto a = Join(Dynamic("a", 0));
  ASSERT_TRUE(a.ok()) << a.status();
  const absl::Status same_name = Join(Dynamic("a", 1)).status();
  EXPECT_EQ(same_name.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(same_name.message()), HasSubstr("is not unique"));
  const absl::Status same_id = Join(Dynamic("b", 0)).status();
  EXPECT_EQ(same_id.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(same_id.message()), HasSubstr("is taken by worker"));
  EXPECT_EQ(Value("names/_ALL_WORKER_INFOS"), "a-0,");
  EXPECT_EQ(Value("RpcGroupManagementToken"), "");
  EXPECT_TRUE((*a)->Send("a", Request("x")).status().ok());
}

TEST_F(GroupTest, TheDeadGiveWay) {
  auto watcher = Join(Dynamic("watcher", kAnyId));
  ASSERT_TRUE(watcher.ok()) << watcher.status();
  {
    auto a = Join(Dynamic("a", 7));
    ASSERT_TRUE(a.ok()) << a.status();
  }  // without leaving
  auto again = Join(Dynamic("a", 7));
  ASSERT_TRUE(again.ok()) << again.status();
  *again = nullptr;
  auto other = Join(Dynamic("b", 7));
  ASSERT_TRUE(other.ok()) << other.status();
  ASSERT_TRUE((*watcher)->WaitForWorker("b", Soon()).ok());
  EXPECT_TRUE((*watcher)->Send(WorkerId{7}, Request("x")).status().ok());
  EXPECT_EQ((*watcher)->GetWorkerInfo("a").status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(Value("names/_ALL_WORKER_INFOS"), "watcher-0,b-7,");
}

// Whom the last call went to.
class LastCall : public Observer {
 public:
  void OnCallStarted(WorkerId to, int64_t, const Message&, absl::Time,
                     std::string_view) override {
    to_ = to;
  }
  int to() const { return to_; }

 private:
  std::atomic<int> to_ = -1;
};

TEST_F(GroupTest, ARetryFindsWhoHasTheNameByThen) {
  LastCall last_call;
  AgentOptions options = Dynamic("a", 0);
  options.shortest_reconnect_pause = absl::Milliseconds(1);
  options.longest_reconnect_pause = absl::Milliseconds(1);
  auto a = Agent::Start({&RealRuntime(), store_, &RealTransports(), &last_call},
                        options, Echo(), Soon());
  ASSERT_TRUE(a.ok()) << a.status();
  auto b = Join(Dynamic("b", 7));
  ASSERT_TRUE(b.ok()) << b.status();
  ASSERT_TRUE((*a)->WaitForWorker("b", Soon()).ok());
  *b = nullptr;  // without leaving
  const Future call = (*a)->SendWithRetries(
      "b", Request("x"), {.timeout = absl::ZeroDuration()},
      {.max_retries = 1'000'000,
       .retry_duration = absl::Milliseconds(5),
       .backoff = 1});
  auto c = Join(Dynamic("c", 7));
  ASSERT_TRUE(c.ok()) << c.status();
  ASSERT_TRUE((*a)->WaitForWorker("c", Soon()).ok());
  EXPECT_EQ((*a)->GetWorkerInfo("b").status().code(),
            absl::StatusCode::kNotFound);
  // The attempt that may still look for the old one is over then.
  const int64_t retries = (*a)->GetMetrics()["agent.retries"];
  while ((*a)->GetMetrics()["agent.retries"] < retries + 2) {
    RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(1));
  }
  EXPECT_FALSE(call.done());
  auto again = Join(Dynamic("b", 9));
  ASSERT_TRUE(again.ok()) << again.status();
  ASSERT_TRUE(call.Wait(Soon()));
  EXPECT_TRUE(call.status().ok()) << call.status();
  EXPECT_EQ(last_call.to(), 9);
}

TEST_F(GroupTest, AHolderThatDiedIsPushedAside) {
  ASSERT_TRUE(store_
                  ->Set("RpcGroupManagementToken", "Token_for_x_join",
                        RealRuntime().Now() + absl::Seconds(1))
                  .ok());
  const absl::Status busy =
      Join(Dynamic("a", 0), RealRuntime().Now() + absl::Milliseconds(200))
          .status();
  EXPECT_EQ(busy.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(busy.message()), HasSubstr("Token_for_x_join"));
  auto a = Join(Dynamic("a", 0));
  ASSERT_TRUE(a.ok()) << a.status();
  EXPECT_EQ(Value("Token_for_x_join"), "Done");
  EXPECT_EQ(Value("RpcGroupManagementToken"), "");
}

TEST_F(GroupTest, AJoinThatFailsIsUndone) {
  // At each access to the store in turn; the access itself is done.
  int num_failed = 0;
  for (int failing = 0;; ++failing) {
    std::atomic<int> accesses = 0;
    const std::shared_ptr<Store> store = MakeHookedStore(
        store_, nullptr,
        [&](const std::string&, const std::string&) -> absl::Status {
          if (accesses++ != failing) return absl::OkStatus();
          return absl::InternalError("the store broke");
        });
    auto a = Agent::Start({&RealRuntime(), store, &RealTransports()},
                          Dynamic("a", 4), Echo(), Soon());
    if (accesses <= failing) {
      EXPECT_TRUE(a.ok()) << a.status();
      break;
    }
    if (a.ok()) {
      EXPECT_TRUE((*a)->Leave(Soon()).ok());
    } else {
      ++num_failed;
      EXPECT_THAT(std::string(a.status().message()),
                  HasSubstr("the store broke"));
    }
    EXPECT_THAT(Value("reprise/members"), Not(HasSubstr(" a ")));
    EXPECT_THAT(Value("names/_ALL_WORKER_INFOS"), Not(HasSubstr("a-4")));
  }
  EXPECT_GT(num_failed, 5);
}

TEST_F(GroupTest, TheKindsDoNotMix) {
  auto a = Join(Dynamic("a", 0));
  ASSERT_TRUE(a.ok()) << a.status();
  AgentOptions fixed = OptionsFor(0, 1);
  EXPECT_EQ(Join(fixed).status().code(), absl::StatusCode::kFailedPrecondition);
  const absl::Status join = (*a)->Join(Soon());
  EXPECT_EQ(join.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(join.message()), HasSubstr("no barrier"));
}

TEST_F(GroupTest, StrangeListsAreRefused) {
  for (const char* text :
       {"x", "members-1 z\n", "members-1 -1\n",
        "members-1 9223372036854775807\n",
        "members-1 3\n0 a 1 - u\n1 a 2 - u\n",
        "members-1 3\n0 a 1 - u\n0 b 2 - u\n", "members-1 3\n-1 a 1 - u\n",
        "members-1 3\n99999 a 1 - u\n", "members-1 3\n0 a/ 1 - u\n"}) {
    ASSERT_TRUE(store_->Set("reprise/members", text, Soon()).ok());
    EXPECT_EQ(Join(Dynamic("a", 0)).status().code(),
              absl::StatusCode::kInvalidArgument)
        << text;
  }
  EXPECT_EQ(Value("RpcGroupManagementToken"), "(none)");
}

TEST_F(GroupTest, DeviceMapsComeAndGoWithTheirOwners) {
  const Device c0{"cuda", 0};
  const Device c1{"cuda", 1};
  const Device c2{"cuda", 2};
  AgentOptions options = Dynamic("a", 0);
  options.device_maps["b"] = {{c0, c1}};
  options.device_maps["c"] = {{c2, c0}};
  auto a = Join(options);
  ASSERT_TRUE(a.ok()) << a.status();
  auto b = Join(Dynamic("b", 1));
  ASSERT_TRUE(b.ok()) << b.status();
  EXPECT_EQ(*(*b)->GetReverseDeviceMap("a"), (DeviceMap{{c1, c0}}));
  EXPECT_THAT((*b)->GetDevices(), ElementsAre(c1));

  options = Dynamic("c", 2);
  options.device_maps["b"] = {{c0, c2}};
  auto c = Join(options);
  ASSERT_TRUE(c.ok()) << c.status();
  ASSERT_TRUE((*b)->WaitForWorker("c", Soon()).ok());
  EXPECT_EQ(*(*b)->GetReverseDeviceMap("c"), (DeviceMap{{c2, c0}}));
  EXPECT_THAT((*b)->GetDevices(), ElementsAre(c1, c2));
  ASSERT_TRUE((*a)->WaitForWorker("c", Soon()).ok());
  EXPECT_EQ(*(*a)->GetDeviceMap("c"), (DeviceMap{{c2, c0}}));
  // Not the one that was made for b.
  EXPECT_EQ(*(*c)->GetReverseDeviceMap("a"), (DeviceMap{{c0, c2}}));

  ASSERT_TRUE((*c)->Leave(Soon()).ok());
  EXPECT_EQ((*b)->GetReverseDeviceMap("c").status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(*(*b)->GetReverseDeviceMap("a"), (DeviceMap{{c1, c0}}));
  EXPECT_THAT((*b)->GetDevices(), ElementsAre(c1));
}

TEST_F(GroupTest, MapsThatDoNotFitAreRefusedWithPyTorchsTexts) {
  const Device c0{"cuda", 0};
  const Device c1{"cuda", 1};
  const Device c9{"cuda", 9};
  AgentOptions options = Dynamic("a", 0);
  options.device_count = 2;
  options.devices = {c0};
  auto a = Join(options);
  ASSERT_TRUE(a.ok()) << a.status();
  const auto error = [&](auto customize) {
    AgentOptions b = Dynamic("b", 1);
    b.device_count = 2;
    customize(b);
    const absl::Status status = Join(b).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  EXPECT_THAT(error([&](AgentOptions& b) {
                b.devices = {c0, c0};
              }),
              HasSubstr("Node b has duplicated devices"));
  EXPECT_THAT(error([&](AgentOptions& b) { b.devices = {c9}; }),
              HasSubstr("Node b has devices with invalid indices"));
  EXPECT_THAT(
      error([&](AgentOptions& b) {
        b.device_maps["a"] = {{c0, c0}, {c1, c0}};
      }),
      HasSubstr(
          "Node b has duplicated target devices in its device map for a"));
  EXPECT_THAT(error([&](AgentOptions& b) {
                b.devices = {c0};
                b.device_maps["a"] = {{c1, c0}};
              }),
              HasSubstr("Node b has unexpected source devices"));
  EXPECT_THAT(error([&](AgentOptions& b) {
                b.device_maps["a"] = {{c9, c0}};
              }),
              HasSubstr("Node b has source devices with invalid indices"));
  EXPECT_THAT(error([&](AgentOptions& b) {
                b.device_maps["a"] = {{c0, c1}};
              }),
              HasSubstr("Node b has unexpected target devices"));
  const std::string invalid = "Node b has target devices with invalid indices";
  EXPECT_THAT(error([&](AgentOptions& b) {
                b.device_maps["to come"] = {{c0, {"cuda", -1}}};
              }),
              HasSubstr(invalid));
  options = Dynamic("c", 2);
  options.device_count = 2;
  options.device_maps["a"] = {{c1, c0}};
  auto c = Join(options);
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_THAT(error([&](AgentOptions& b) {
                b.device_maps["c"] = {{c0, c9}};
              }),
              HasSubstr(invalid));
  EXPECT_EQ(Value("names/_ALL_WORKER_INFOS"), "a-0,c-2,");
  EXPECT_EQ(Value("RpcGroupManagementToken"), "");
}

}  // namespace
}  // namespace reprise

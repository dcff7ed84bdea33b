// Joins and leaves of a dynamic group at the same time take turns by the token,
// and a worker that loses it overwrites nothing.

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/agent.h"
#include "agent/group/member_list.h"
#include "agent/store/memory_store.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"
#include "tests/unit/agent/hooked_store.h"

namespace reprise::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAreArray;

constexpr char kToken[] = "RpcGroupManagementToken";

// A worker with this option never breaks the lease of another one.
constexpr absl::Duration kEndless = absl::Hours(24);

class GroupTurnsTest : public ::testing::Test {
 protected:
  static std::unique_ptr<Agent> Join(AgentOptions options,
                                     std::shared_ptr<Store> store) {
    auto agent =
        Agent::Start({&RealRuntime(), std::move(store), &RealTransports()},
                     std::move(options), Echo(), Soon());
    EXPECT_TRUE(agent.ok()) << agent.status();
    return agent.ok() ? *std::move(agent) : nullptr;
  }

  void Set(std::string_view key, std::string_view value) {
    EXPECT_TRUE(store_->Set(key, value, Soon()).ok());
  }
  std::string Value(std::string_view key) {
    return store_->TryGet(key, Soon()).value_or("(none)");
  }

  // Both lists have exactly these.
  void ExpectListed(const std::vector<WorkerInfo>& members) {
    const auto list = ParseMemberList(Value(kMembersKey));
    ASSERT_TRUE(list.ok()) << list.status();
    std::vector<WorkerInfo> listed;
    for (const MemberEntry& entry : list->members) {
      listed.push_back(entry.worker);
    }
    EXPECT_THAT(listed, UnorderedElementsAreArray(members));
    EXPECT_THAT(ParseStockMembers(Value(kStockMembersKey)),
                UnorderedElementsAreArray(members));
    EXPECT_EQ(Value(kToken), "");
  }

  std::shared_ptr<Store> store_ = MakeMemoryStore(RealRuntime());
};

// One member has the token, and stands still before it writes `GetParam()`
// until another one has pushed it aside and joined. What it then writes is in
// time for the store, as it is when it was long on its way.
class PushedAsideTest : public GroupTurnsTest,
                        public ::testing::WithParamInterface<std::string_view> {
 protected:
  std::unique_ptr<Agent> JoinSlowly() {
    AgentOptions options = Dynamic("slow", kAnyId);
    options.token_lease = kEndless;
    return Join(std::move(options), slow_store_);
  }

  std::unique_ptr<Agent> quick_;
  std::atomic<bool> stalls_ = false;  // at the next write
  std::shared_ptr<Store> slow_store_ = MakeHookedStore(
      store_,
      [this](const std::string& call, const std::string& key) {
        if (call != "TryGet" && key == GetParam() && stalls_.exchange(false)) {
          quick_ = Join(Dynamic("quick", kAnyId), store_);
        }
        return absl::OkStatus();
      },
      nullptr);
};

TEST_P(PushedAsideTest, AJoinThatIsLateOverwritesNobody) {
  stalls_ = true;
  const std::unique_ptr<Agent> slow = JoinSlowly();
  ASSERT_NE(slow, nullptr);
  ASSERT_NE(quick_, nullptr);
  ExpectListed({slow->self(), quick_->self()});
}

TEST_P(PushedAsideTest, ALeaveThatIsLateOverwritesNobody) {
  const std::unique_ptr<Agent> stays = Join(Dynamic("stays", kAnyId), store_);
  ASSERT_NE(stays, nullptr);
  const std::unique_ptr<Agent> slow = JoinSlowly();
  ASSERT_NE(slow, nullptr);
  stalls_ = true;
  EXPECT_EQ(slow->Leave(Soon()), absl::OkStatus());
  ASSERT_NE(quick_, nullptr);
  ExpectListed({stays->self(), quick_->self()});
}

INSTANTIATE_TEST_SUITE_P(
    Lists, PushedAsideTest, ::testing::Values(kMembersKey, kStockMembersKey),
    [](const ::testing::TestParamInfo<std::string_view>& info) {
      return std::string(info.param == kMembersKey ? "Ours" : "Stock");
    });

// Stock workers wait for "Done" of the holder that they have seen.
TEST_F(GroupTurnsTest, AReleaseWhoseAnswerIsLostIsAnnouncedAllTheSame) {
  constexpr char kNext[] = "Token_for_stock_join";
  std::atomic<bool> lost = false;
  const auto store = MakeHookedStore(
      store_, nullptr, [&](const std::string& call, const std::string& key) {
        if (call != "CompareSet" || key != kToken || Value(kToken) != "" ||
            lost.exchange(true)) {
          return absl::OkStatus();
        }
        // Another worker was quicker than the next attempt.
        Set(kToken, kNext);
        return absl::UnavailableError("the answer was lost");
      });
  const std::unique_ptr<Agent> agent = Join(Dynamic("a", kAnyId), store);
  ASSERT_NE(agent, nullptr);
  EXPECT_TRUE(lost);
  EXPECT_EQ(Value(kToken), kNext);
  EXPECT_EQ(Value("Token_for_a_join"), "Done");
  Set(kToken, "");
}

// The stock worker has the token, and no lease beside it.
TEST_F(GroupTurnsTest, AStockWorkerIsWaitedForUntilItLetsGo) {
  constexpr int kLooks = 3;
  Set(kToken, "Token_for_stock_join");
  std::atomic<int> looks = 0;
  std::atomic<bool> is_free = false;
  std::atomic<bool> was_early = false;
  const std::shared_ptr<Store> store = MakeHookedStore(
      store_,
      [&](const std::string& call, const std::string& key) {
        if (call == "CompareSet" && key == kToken && ++looks == kLooks) {
          Set("names/0", "stock");
          Set(kStockMembersKey, "stock-0,");
          Set(kToken, "");
          Set("Token_for_stock_join", "Done");
          is_free = true;
        }
        const bool is_list = key == kMembersKey || key == kStockMembersKey;
        if (is_list && call != "TryGet" && !is_free) was_early = true;
        return absl::OkStatus();
      },
      nullptr);
  AgentOptions options = Dynamic("a", kAnyId);
  options.token_lease = kEndless;
  const std::unique_ptr<Agent> a = Join(std::move(options), store);
  ASSERT_NE(a, nullptr);
  EXPECT_GE(looks, kLooks);
  EXPECT_FALSE(was_early);
  EXPECT_EQ(a->self(), (WorkerInfo{"a", 1}));
  EXPECT_THAT(a->GetWorkerInfos(),
              ElementsAre(WorkerInfo{"stock", 0}, WorkerInfo{"a", 1}));
  EXPECT_EQ(Value(kStockMembersKey), "stock-0,a-1,");
}

}  // namespace
}  // namespace reprise::testing

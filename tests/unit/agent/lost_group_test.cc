// A dynamic group whose store loses it, over real transports.

#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "agent/agent.h"
#include "agent/store/memory_store.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"
#include "tests/unit/agent/hooked_store.h"

namespace reprise::testing {
namespace {

using ::testing::HasSubstr;

constexpr char kMembers[] = "reprise/members";
constexpr char kStockMembers[] = "names/_ALL_WORKER_INFOS";

// Answers with the name of the worker that runs it.
RequestHandler SayWho(const std::string& name) {
  return Blocking([name](Message, const RequestInfo&) {
    Message reply;
    reply.type = MessageType::kPythonRet;
    reply.payload = name;
    return absl::StatusOr<Message>(std::move(reply));
  });
}

class LostGroupTest : public ::testing::Test {
 protected:
  static absl::StatusOr<std::unique_ptr<Agent>> Join(
      const std::string& name, std::shared_ptr<Store> store) {
    return Agent::Start({&RealRuntime(), std::move(store), &RealTransports()},
                        Dynamic(name, kAnyId), SayWho(name), Soon());
  }
  void LoseGroup() {
    for (const char* key : {kMembers, kStockMembers}) {
      EXPECT_TRUE(store_->Delete(key, Soon()).ok());
    }
  }

  const std::shared_ptr<Store> store_ = MakeMemoryStore(RealRuntime());
};

TEST_F(LostGroupTest, AJoinThatIsLostBeforeItIsSeenIsDoneAgain) {
  std::atomic<int> num_lost = 0;
  // A join enters this list last.
  const auto lose = [&](const std::string&, const std::string& key) {
    if (key == kStockMembers && store_->TryGet(key, Soon()).ok() &&
        num_lost.fetch_add(1) == 0) {
      LoseGroup();
    }
    return absl::OkStatus();
  };
  auto a = Join("a", MakeHookedStore(store_, nullptr, lose));
  ASSERT_TRUE(a.ok()) << a.status();
  EXPECT_GT(num_lost, 1);
  EXPECT_THAT(store_->TryGet(kMembers, Soon()).value_or(""), HasSubstr(" a "));
  auto b = Join("b", store_);
  ASSERT_TRUE(b.ok()) << b.status();
  EXPECT_EQ((*b)->GetWorkerInfos().size(), 2u);
}

TEST_F(LostGroupTest, AnIdThatAnotherHasNowLeadsToThatOne) {
  auto a = Join("a", store_);
  ASSERT_TRUE(a.ok()) << a.status();
  auto b = Join("b", store_);
  ASSERT_TRUE(b.ok()) << b.status();
  EXPECT_EQ((*b)->Send("a", Request("")).result()->payload, "a");
  LoseGroup();
  // It gets the number that "a" had, and its id.
  auto c = Join("c", store_);
  ASSERT_TRUE(c.ok()) << c.status();
  const absl::StatusOr<WorkerInfo> seen = (*b)->WaitForWorker("c", Soon());
  ASSERT_TRUE(seen.ok()) << seen.status();
  ASSERT_EQ(seen->id, 0);
  const Future call = (*b)->Send("c", Request(""));
  ASSERT_TRUE(call.status().ok()) << call.status();
  EXPECT_EQ(call.result()->payload, "c");
}

}  // namespace
}  // namespace reprise::testing

// The simulated store: the contract of every store under each schedule, and
// what only a simulated one does.

#include "sim/store/sim_store.h"

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/sim/sim_testing.h"
#include "tests/unit/store/store_contract.h"

namespace reprise {
namespace {

using testing::HasSubstr;

class SimStoreFixture : public StoreFixture {
 public:
  explicit SimStoreFixture(Policy policy)
      : world_(With(policy)), server_(*world_) {}

  Runtime& runtime() override { return world_.runtime(); }
  std::shared_ptr<Store> Open() override {
    return server_.Connect(world_.node());
  }
  void Run(absl::AnyInvocable<void()> body) override {
    world_.Start(0, "test", std::move(body));
    EXPECT_EQ(world_.Run(), Outcome::kFinished)
        << testing::PrintToString(world_->DescribeFibers());
  }

 private:
  TestWorld world_;
  SimStoreServer server_;
};

template <Policy policy>
std::unique_ptr<StoreFixture> Make() {
  return std::make_unique<SimStoreFixture>(policy);
}

INSTANTIATE_TEST_SUITE_P(
    Simulated, StoreContractTest,
    testing::Values(StoreKind{"Cooperative", Make<Policy::kCooperative>},
                    StoreKind{"Random", Make<Policy::kRandom>},
                    StoreKind{"Pct", Make<Policy::kPct>}),
    StoreKindName);

class SimStoreTest : public testing::Test {
 protected:
  SimStoreTest() : world_(With(Policy::kRandom)), server_(*world_) {
    server_.OnInjected(
        [this](FaultKind kind, int) { injections_.push_back(kind); });
  }

  absl::Time In(absl::Duration duration) { return world_.After(duration); }

  TestWorld world_;
  SimStoreServer server_;
  std::vector<FaultKind> injections_;
};

TEST_F(SimStoreTest, OperationsTakeVirtualTime) {
  world_.Start(0, "main", [&] {
    const auto store = server_.Connect(world_.node());
    ASSERT_TRUE(store->Set("key", "value", In(absl::Seconds(1))).ok());
  });
  EXPECT_EQ(world_.Run(), Outcome::kFinished);
  EXPECT_GT(world_.now_ns(), 0);
  EXPECT_LT(world_.now_ns(), kMillisecond);
}

TEST_F(SimStoreTest, AnOutageRefusesUntilItEnds) {
  server_.SetOutage(1, kSecond);
  world_.Start(1, "main", [&] {
    const auto store = server_.Connect(world_.node(1));
    for (const absl::Status& status :
         {store->Set("key", "value", In(absl::Seconds(5))),
          store->Get("key", In(absl::Seconds(5))).status(),
          store->TryGet("key", In(absl::Seconds(5))).status(),
          store->CompareSet("key", "", "x", In(absl::Seconds(5))).status(),
          store->Add("key", 1, In(absl::Seconds(5))).status(),
          store->Delete("key", In(absl::Seconds(5))).status()}) {
      EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    }
    EXPECT_EQ(injections_, std::vector<FaultKind>(6, FaultKind::kStoreOutage));
    // Nothing took effect, and the outage ends.
    world_.runtime(1).SleepUntil(In(absl::Seconds(1)));
    EXPECT_EQ(store->TryGet("key", In(absl::Seconds(5))).status().code(),
              absl::StatusCode::kNotFound);
  });
  world_.Start(0, "other", [&] {
    const auto store = server_.Connect(world_.node(0));
    EXPECT_TRUE(store->Set("other", "value", In(absl::Seconds(5))).ok());
  });
  EXPECT_EQ(world_.Run(), Outcome::kFinished);
  EXPECT_EQ(injections_.size(), 6u);
}

TEST_F(SimStoreTest, AnOutageOfAll) {
  server_.SetOutage(-1, kSecond);
  for (int rank : {0, 1}) {
    world_.Start(rank, "main", [&, rank] {
      const auto store = server_.Connect(world_.node(rank));
      EXPECT_EQ(store->Set("key", "value", In(absl::Seconds(5))).code(),
                absl::StatusCode::kUnavailable);
    });
  }
  EXPECT_EQ(world_.Run(), Outcome::kFinished);
}

TEST_F(SimStoreTest, ADelay) {
  server_.SetDelay(50 * kMillisecond, kSecond);
  world_.Start(0, "main", [&] {
    const auto store = server_.Connect(world_.node());
    ASSERT_TRUE(store->Set("key", "value", In(absl::Seconds(1))).ok());
    // The delay counts both on the way there and on the way back.
    EXPECT_GE(world_.now_ns(), 100 * kMillisecond);
    EXPECT_LT(world_.now_ns(), 101 * kMillisecond);
    const absl::Time deadline = In(absl::Milliseconds(20));
    EXPECT_EQ(store->TryGet("key", deadline).status().code(),
              absl::StatusCode::kDeadlineExceeded);
    EXPECT_EQ(world_->Now(), deadline);
    world_.runtime().SleepUntil(In(absl::Seconds(1)));
    const int64_t before_ns = world_.now_ns();
    EXPECT_TRUE(store->TryGet("key", In(absl::Milliseconds(20))).ok());
    EXPECT_LT(world_.now_ns() - before_ns, kMillisecond);
  });
  EXPECT_EQ(world_.Run(), Outcome::kFinished);
  EXPECT_EQ(injections_, std::vector<FaultKind>(3, FaultKind::kStoreDelay));
}

TEST_F(SimStoreTest, AReplyThatIsTooLateMayHaveHadItsEffect) {
  int sets = 0;
  int late = 0;
  world_.Start(0, "main", [&] {
    const auto store = server_.Connect(world_.node());
    for (int i = 0; i < 100; ++i) {
      const std::string key = std::to_string(i);
      // One way takes 30 to 150 us.
      const bool in_time =
          store->Set(key, "x", In(absl::Microseconds(100))).ok();
      const bool is_set = store->TryGet(key, In(absl::Seconds(1))).ok();
      if (in_time) {
        EXPECT_TRUE(is_set);
      } else {
        ++late;
        sets += is_set ? 1 : 0;
      }
    }
  });
  EXPECT_EQ(world_.Run(), Outcome::kFinished);
  EXPECT_GT(late, 0);
  EXPECT_GT(sets, 0);
  EXPECT_LT(sets, late);
}

TEST_F(SimStoreTest, ACrashedClientWaitsForNothing) {
  // A node waits for a key and crashes. Then another client sets the key.
  world_.Start(1, "main", [&] {
    auto store = server_.Connect(world_.node(1));
    store->Get("key", absl::InfiniteFuture()).IgnoreError();
    ADD_FAILURE() << "a dead node went on";
  });
  world_->At(kMillisecond, {0, 0}, [&] { world_->Crash(world_.node(1)); });
  world_.Start(0, "main", [&] {
    const auto store = server_.Connect(world_.node(0));
    world_.runtime(0).SleepUntil(In(absl::Milliseconds(2)));
    EXPECT_TRUE(store->Set("key", "value", In(absl::Seconds(1))).ok());
    EXPECT_TRUE(store->Get("key", In(absl::Seconds(1))).ok());
  });
  EXPECT_EQ(world_.Run(), Outcome::kFinished);
}

TEST_F(SimStoreTest, ItIsInTheTrace) {
  world_.Start(0, "main", [&] {
    const auto store = server_.Connect(world_.node());
    EXPECT_TRUE(store->Set("a key", "value", In(absl::Seconds(1))).ok());
  });
  EXPECT_EQ(world_.Run(), Outcome::kFinished);
  int found = 0;
  for (const Event& event : world_->trace().events()) {
    if (event.kind != EventKind::kStore) continue;
    EXPECT_THAT(event.text, HasSubstr("a key"));
    ++found;
  }
  EXPECT_EQ(found, 1);
}

}  // namespace
}  // namespace reprise

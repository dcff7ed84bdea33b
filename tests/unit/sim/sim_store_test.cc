// The simulated store: the contract of every store under each schedule, and
// what only a simulated one does.

#include "sim/store/sim_store.h"

#include <functional>
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

// What each operation has left behind when its error came. `key` was "5".
struct Operation {
  const char* name;
  std::function<absl::Status(Store&, absl::Time)> run;
  absl::StatusOr<std::string> left;
};

std::vector<Operation> AllOperations() {
  const auto key = "key";
  return {
      {"set",
       [=](Store& store, absl::Time by) { return store.Set(key, "6", by); },
       "6"},
      {"get",
       [=](Store& store, absl::Time by) { return store.Get(key, by).status(); },
       "5"},
      {"try-get",
       [=](Store& store, absl::Time by) {
         return store.TryGet(key, by).status();
       },
       "5"},
      {"compare-set",
       [=](Store& store, absl::Time by) {
         return store.CompareSet(key, "5", "7", by).status();
       },
       "7"},
      {"add",
       [=](Store& store, absl::Time by) {
         return store.Add(key, 3, by).status();
       },
       "8"},
      {"delete",
       [=](Store& store, absl::Time by) {
         return store.Delete(key, by).status();
       },
       absl::NotFoundError("")},
  };
}

TEST_F(SimStoreTest, AnyOperationMayLoseItsReply) {
  world_.Start(1, "main", [&] {
    const auto store = server_.Connect(world_.node(1));
    const auto other = server_.Connect(world_.node(0));
    for (const bool silent : {false, true}) {
      for (const Operation& operation : AllOperations()) {
        SCOPED_TRACE(operation.name);
        ASSERT_TRUE(other->Set("key", "5", In(absl::Seconds(1))).ok());
        server_.LoseReplies(1, silent, world_.now_ns() + kSecond);
        const absl::Time deadline = In(absl::Milliseconds(10));
        const absl::Status status = operation.run(*store, deadline);
        EXPECT_EQ(status.code(), silent ? absl::StatusCode::kDeadlineExceeded
                                        : absl::StatusCode::kUnavailable)
            << status;
        EXPECT_EQ(world_->Now() >= deadline, silent);
        const auto left = other->TryGet("key", In(absl::Seconds(1)));
        EXPECT_EQ(left.status().code(), operation.left.status().code());
        EXPECT_EQ(left.value_or(""), operation.left.value_or(""));
        server_.LoseReplies(1, silent, 0);
      }
    }
    EXPECT_TRUE(store->Set("key", "9", In(absl::Seconds(1))).ok());
  });
  EXPECT_EQ(world_.Run(), Outcome::kFinished);
  EXPECT_EQ(injections_,
            std::vector<FaultKind>(12, FaultKind::kStoreLostReply));
}

TEST_F(SimStoreTest, AnyOperationMayTakeEffectLater) {
  world_.Start(1, "main", [&] {
    const auto store = server_.Connect(world_.node(1));
    for (const Operation& operation : AllOperations()) {
      SCOPED_TRACE(operation.name);
      ASSERT_TRUE(store->Set("key", "5", In(absl::Seconds(1))).ok());
      server_.DelayEffects(1, 20 * kMillisecond,
                           world_.now_ns() + kMillisecond);
      EXPECT_EQ(operation.run(*store, In(absl::Seconds(1))).code(),
                absl::StatusCode::kUnavailable);
      world_.runtime(1).SleepUntil(In(absl::Milliseconds(10)));
      EXPECT_EQ(store->TryGet("key", In(absl::Seconds(1))).value_or(""), "5");
      world_.runtime(1).SleepUntil(In(absl::Milliseconds(11)));
      const auto left = store->TryGet("key", In(absl::Seconds(1)));
      EXPECT_EQ(left.status().code(), operation.left.status().code());
      EXPECT_EQ(left.value_or(""), operation.left.value_or(""));
    }
  });
  EXPECT_EQ(world_.Run(), Outcome::kFinished);
  // The four that change something.
  EXPECT_EQ(injections_,
            std::vector<FaultKind>(4, FaultKind::kStoreLateEffect));
}

TEST_F(SimStoreTest, SomeKeysAreSlow) {
  server_.SetSlowKeys(50 * kMillisecond, 100 * kSecond);
  int slow = 0;
  world_.Start(0, "main", [&] {
    const auto store = server_.Connect(world_.node());
    for (int i = 0; i < 100; ++i) {
      const int64_t before_ns = world_.now_ns();
      ASSERT_TRUE(
          store->Set(std::to_string(i), "x", In(absl::Seconds(1))).ok());
      const int64_t took_ns = world_.now_ns() - before_ns;
      EXPECT_TRUE(took_ns < kMillisecond || took_ns > 100 * kMillisecond);
      slow += took_ns > 100 * kMillisecond ? 1 : 0;
    }
  });
  EXPECT_EQ(world_.Run(), Outcome::kFinished);
  EXPECT_GT(slow, 25);
  EXPECT_LT(slow, 75);
  EXPECT_EQ(injections_,
            std::vector<FaultKind>(2 * slow, FaultKind::kStoreSlowKeys));
}

TEST_F(SimStoreTest, ARestartLosesTheLastWrites) {
  server_.KeepHistory();
  world_->At(kSecond, {0, 0}, [&] {
    server_.Restart(/*lost_ns=*/500 * kMillisecond, 2 * kSecond);
  });
  world_.Start(0, "main", [&] {
    const auto store = server_.Connect(world_.node());
    ASSERT_TRUE(store->Set("old", "1", In(absl::Seconds(1))).ok());
    ASSERT_TRUE(store->Set("deleted", "1", In(absl::Seconds(1))).ok());
    world_.runtime().SleepUntil(In(absl::Milliseconds(700)));
    ASSERT_TRUE(store->Set("new", "1", In(absl::Seconds(1))).ok());
    ASSERT_TRUE(store->Add("old", 1, In(absl::Seconds(1))).ok());
    ASSERT_TRUE(store->Add("old", 1, In(absl::Seconds(1))).ok());
    ASSERT_TRUE(store->Delete("deleted", In(absl::Seconds(1))).ok());
    // A wait for a key ends with its connection.
    const absl::Status cut = store->Get("none", In(absl::Seconds(9))).status();
    EXPECT_EQ(cut.code(), absl::StatusCode::kUnavailable) << cut;
    EXPECT_EQ(store->TryGet("old", In(absl::Seconds(1))).status().code(),
              absl::StatusCode::kUnavailable);
    world_.runtime().SleepUntil(In(absl::Seconds(1)));
    EXPECT_EQ(store->TryGet("old", In(absl::Seconds(1))).value_or(""), "1");
    EXPECT_EQ(store->TryGet("deleted", In(absl::Seconds(1))).value_or(""), "1");
    EXPECT_EQ(store->TryGet("new", In(absl::Seconds(1))).status().code(),
              absl::StatusCode::kNotFound);
  });
  EXPECT_EQ(world_.Run(), Outcome::kFinished);
  // Four writes, the wait, and the connect that was refused.
  EXPECT_EQ(injections_, std::vector<FaultKind>(6, FaultKind::kStoreRestart));
}

TEST_F(SimStoreTest, ARestartBreaksWhatIsUnderWay) {
  // Both ways take 50 ms. The server dies during one of them.
  server_.SetDelay(50 * kMillisecond, kSecond);
  for (const int64_t at_ms : {20, 70}) {
    world_->At(at_ms * kMillisecond, {0, 0},
               [&] { server_.Restart(0, world_.now_ns()); });
  }
  world_.Start(0, "there", [&] {
    const auto store = server_.Connect(world_.node());
    EXPECT_EQ(store->Add("there", 1, In(absl::Seconds(1))).status().code(),
              absl::StatusCode::kUnavailable);
  });
  world_.Start(0, "back", [&] {
    world_.runtime().SleepUntil(In(absl::Milliseconds(21)));
    const auto store = server_.Connect(world_.node());
    world_.runtime().SleepUntil(In(absl::Milliseconds(1)));
    EXPECT_EQ(store->Add("back", 1, In(absl::Seconds(1))).status().code(),
              absl::StatusCode::kUnavailable);
    EXPECT_FALSE(store->TryGet("there", In(absl::Seconds(1))).ok());
  });
  EXPECT_EQ(world_.Run(), Outcome::kFinished);
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

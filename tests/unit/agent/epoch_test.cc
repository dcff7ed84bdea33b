// The epochs of a static group (static_group.h), worker by worker, over a
// network that only says who answers: orders of events in which two workers of
// one name and id might start.

#include "agent/group/epoch.h"

#include <atomic>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/group/static_group.h"
#include "agent/group/store_client.h"
#include "agent/group/worker_directory.h"
#include "agent/store/memory_store.h"
#include "agent/wire/call_extras.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"
#include "tests/unit/agent/hooked_store.h"

namespace reprise::testing {
namespace {

// Who answers at which address, for all workers alike. Nobody listens
// elsewhere.
class Network {
 public:
  void Come(const std::string& address, const std::string& instance) {
    MutexLock lock(mutex_);
    instances_[address] = instance;
  }
  void Go(const std::string& address) {
    MutexLock lock(mutex_);
    instances_.erase(address);
  }
  // An answer takes so long.
  void GoFar(absl::Duration distance) {
    MutexLock lock(mutex_);
    distance_ = distance;
  }
  Liveness Check(const std::string& address, absl::Time deadline) {
    MutexLock lock(mutex_);
    const auto found = instances_.find(address);
    if (found == instances_.end()) return {Liveness::State::kDead, "", ""};
    if (RealRuntime().Now() + distance_ > deadline) {
      return {Liveness::State::kSilent, "", "it does not answer"};
    }
    return {Liveness::State::kAnswered, found->second, ""};
  }

 private:
  Mutex mutex_{RealRuntime(), "Network"};
  std::map<std::string, std::string> instances_;
  absl::Duration distance_;
};

// Carries out writes of one key when it is told to, after their caller has
// heard that they are too late.
class LateStore final : public Store {
 public:
  explicit LateStore(std::shared_ptr<Store> store) : store_(std::move(store)) {}

  // The next `count` writes of `key`.
  void Hold(const std::string& key, int count) {
    MutexLock lock(mutex_);
    held_key_ = key;
    to_hold_ = count;
  }
  int num_held() {
    MutexLock lock(mutex_);
    return static_cast<int>(held_.size());
  }
  void Release() {
    MutexLock lock(mutex_);
    to_hold_ = 0;
    for (const std::function<void()>& write : held_) write();
  }

  absl::Status Set(std::string_view key, std::string_view value,
                   absl::Time deadline) override {
    const bool is_held =
        Keep(key, [this, k = std::string(key), v = std::string(value)] {
          store_->Set(k, v, Soon()).IgnoreError();
        });
    return is_held ? TooLate() : store_->Set(key, value, deadline);
  }
  absl::StatusOr<std::string> Get(std::string_view key,
                                  absl::Time deadline) override {
    return store_->Get(key, deadline);
  }
  absl::StatusOr<std::string> TryGet(std::string_view key,
                                     absl::Time deadline) override {
    return store_->TryGet(key, deadline);
  }
  absl::StatusOr<std::string> CompareSet(std::string_view key,
                                         std::string_view expected,
                                         std::string_view desired,
                                         absl::Time deadline) override {
    const bool is_held =
        Keep(key, [this, k = std::string(key), e = std::string(expected),
                   d = std::string(desired)] {
          store_->CompareSet(k, e, d, Soon()).IgnoreError();
        });
    if (is_held) return TooLate();
    return store_->CompareSet(key, expected, desired, deadline);
  }
  absl::StatusOr<int64_t> Add(std::string_view key, int64_t delta,
                              absl::Time deadline) override {
    return store_->Add(key, delta, deadline);
  }
  absl::StatusOr<bool> Delete(std::string_view key,
                              absl::Time deadline) override {
    const bool is_held = Keep(key, [this, k = std::string(key)] {
      store_->Delete(k, Soon()).IgnoreError();
    });
    if (is_held) return TooLate();
    return store_->Delete(key, deadline);
  }

 private:
  static absl::Status TooLate() {
    return absl::DeadlineExceededError("the store has not answered");
  }
  bool Keep(std::string_view key, std::function<void()> write) {
    MutexLock lock(mutex_);
    if (to_hold_ == 0 || key != held_key_) return false;
    --to_hold_;
    held_.push_back(std::move(write));
    return true;
  }

  const std::shared_ptr<Store> store_;
  Mutex mutex_{RealRuntime(), "LateStore"};
  std::string held_key_;
  int to_hold_ = 0;
  std::vector<std::function<void()>> held_;
};

// A worker that enters the group, on a thread of its own.
class Entrant {
 public:
  // Listens at "<name>:<instance>".
  Entrant(Network& network, std::shared_ptr<Store> store, int64_t id,
          int64_t size, uint64_t instance, absl::Time deadline)
      : network_(network),
        store_(RealRuntime(), std::move(store), absl::Seconds(10)),
        options_(OptionsFor(id, size)),
        directory_(RealRuntime(), Workers(size), static_cast<WorkerId>(id)),
        address_(absl::StrCat(options_.name, ":", instance)),
        group_(
            RealRuntime(), store_, options_, directory_,
            FormatInstance(instance), OwnFeatures(instance),
            [this](absl::Time) {
              ++num_kept_;
              return absl::OkStatus();
            },
            [this](const std::string& address, absl::Time until) {
              return network_.Check(address, until);
            }) {
    network_.Come(address_, FormatInstance(instance));
    thread_ = RealRuntime().StartThread("entrant", [this, deadline] {
      status_ =
          group_
              .Enter([this] { return address_; }, [](const std::string&) {},
                     [](const std::string&) {}, deadline)
              .status();
    });
  }
  ~Entrant() { End(); }

  absl::Status Wait() {
    if (thread_ != nullptr) thread_->Join();
    thread_ = nullptr;
    return status_;
  }
  int num_kept() const { return num_kept_; }
  void End() {
    Wait().IgnoreError();
    network_.Go(address_);
  }

 private:
  static std::vector<WorkerInfo> Workers(int64_t size) {
    std::vector<WorkerInfo> workers;
    for (int64_t id = 0; id < size; ++id) {
      workers.push_back({absl::StrCat("w", id), static_cast<WorkerId>(id)});
    }
    return workers;
  }

  Network& network_;
  StoreClient store_;
  const AgentOptions options_;
  const WorkerDirectory directory_;
  const std::string address_;
  std::atomic<int> num_kept_ = 0;
  StaticGroup group_;
  absl::Status status_;
  std::unique_ptr<Thread> thread_;
};

class EpochTest : public ::testing::Test {
 protected:
  std::unique_ptr<Entrant> Begin(int64_t id, int64_t size,
                                 std::shared_ptr<Store> store = nullptr,
                                 absl::Time deadline = Soon()) {
    if (store == nullptr) store = store_;
    return std::make_unique<Entrant>(network_, std::move(store), id, size,
                                     ++last_instance_, deadline);
  }

  static absl::Time In(absl::Duration duration) {
    return RealRuntime().Now() + duration;
  }

  Epoch Present() {
    const absl::StatusOr<Epoch> epoch =
        ParseEpoch(store_->Get(kEpochKey, Soon()).value_or(""));
    EXPECT_TRUE(epoch.ok()) << epoch.status();
    return epoch.value_or(Epoch());
  }
  // Of the present epoch.
  std::string MemberKey(int64_t id) {
    return absl::StrCat("reprise/epoch/", Present().name, "/", id);
  }
  void AwaitKey(const std::string& key) {
    EXPECT_TRUE(store_->Get(key, Soon()).ok()) << key;
  }

  // `first`, the worker 0 of a group of three, waits for the others.
  void ExpectASuccessorKeepsItsPlace(Entrant& first, LateStore& late) {
    const auto second = Begin(1, 3);
    AwaitKey("addrs/w1");
    EXPECT_EQ(first.Wait().code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_GT(late.num_held(), 0);
    first.End();
    const auto successor = Begin(0, 3);
    const auto third = Begin(2, 3);
    EXPECT_TRUE(successor->Wait().ok()) << successor->Wait();
    EXPECT_TRUE(second->Wait().ok()) << second->Wait();
    EXPECT_TRUE(third->Wait().ok()) << third->Wait();
    late.Release();
    const auto twin = Begin(0, 3);
    EXPECT_EQ(twin->Wait().code(), absl::StatusCode::kAlreadyExists)
        << twin->Wait();
  }

  Network network_;
  const std::shared_ptr<Store> store_ = MakeMemoryStore(RealRuntime());
  uint64_t last_instance_ = 0;
};

TEST_F(EpochTest, AMemberThatGivesUpWhenTheOthersHaveStartedKeepsItsPlace) {
  // It does not see that the last one comes.
  const auto blind = MakeHookedStore(
      store_,
      [](const std::string& call, const std::string& key) {
        return call == "Get" && key.ends_with("/1")
                   ? absl::UnavailableError("away")
                   : absl::OkStatus();
      },
      nullptr);
  const auto first = Begin(0, 3, blind, In(absl::Seconds(3)));
  AwaitKey("addrs/w0");
  const auto second = Begin(1, 3);
  auto third = Begin(2, 3);
  EXPECT_TRUE(second->Wait().ok()) << second->Wait();
  EXPECT_TRUE(third->Wait().ok()) << third->Wait();
  EXPECT_EQ(first->Wait().code(), absl::StatusCode::kDeadlineExceeded);
  first->End();
  // The group is complete, and counts on it to come back.
  third->End();
  third = Begin(2, 3, nullptr, In(absl::Seconds(5)));
  EXPECT_TRUE(third->Wait().ok()) << third->Wait();
  const auto again = Begin(0, 3);
  EXPECT_TRUE(again->Wait().ok()) << again->Wait();
}

TEST_F(EpochTest, AMarkThatIsTakenBackLateIsNotThatOfASuccessor) {
  const auto late = std::make_shared<LateStore>(store_);
  const auto first = Begin(0, 3, late, In(absl::Seconds(3)));
  AwaitKey("addrs/w0");
  late->Hold(MemberKey(0), std::numeric_limits<int>::max());
  ExpectASuccessorKeepsItsPlace(*first, *late);
}

TEST_F(EpochTest, AMarkThatComesLateIsNotThatOfASuccessor) {
  const auto late = std::make_shared<LateStore>(store_);
  late->Hold(absl::StrCat("reprise/epoch/0-",
                          FormatInstance(last_instance_ + 1), ".1/0"),
             1);
  const auto first = Begin(0, 3, late, In(absl::Seconds(3)));
  AwaitKey("addrs/w0");
  ExpectASuccessorKeepsItsPlace(*first, *late);
}

TEST_F(EpochTest, WhoWaitsInAGroupThatTheStoreHasLostEntersAgain) {
  const auto first = Begin(0, 3);
  AwaitKey("addrs/w0");
  const auto second = Begin(1, 3);
  AwaitKey("addrs/w1");
  const std::string mark = MemberKey(1);
  // What tells them of the loss goes last.
  for (const std::string& key :
       {std::string("addrs/w0"), std::string("addrs/w1"), MemberKey(0), mark,
        std::string(kEpochKey)}) {
    EXPECT_TRUE(store_->Delete(key, Soon()).ok());
  }
  AwaitKey("addrs/w0");
  AwaitKey("addrs/w1");
  const auto third = Begin(2, 3);
  EXPECT_TRUE(first->Wait().ok()) << first->Wait();
  EXPECT_TRUE(second->Wait().ok()) << second->Wait();
  EXPECT_TRUE(third->Wait().ok()) << third->Wait();
  EXPECT_GT(first->num_kept(), 0);
}

TEST_F(EpochTest, MembersMayBeFarFromEachOther) {
  network_.GoFar(absl::Seconds(4));
  const auto first = Begin(0, 2);
  AwaitKey("addrs/w0");
  const std::string epoch = Present().name;
  const auto second = Begin(1, 2);
  EXPECT_TRUE(first->Wait().ok()) << first->Wait();
  EXPECT_TRUE(second->Wait().ok()) << second->Wait();
  EXPECT_EQ(Present().name, epoch);
}

TEST_F(EpochTest, AnAddressThatTheStoreHasLostIsPublishedAgain) {
  const auto first = Begin(0, 2);
  AwaitKey("addrs/w0");
  EXPECT_TRUE(store_->Delete("addrs/w0", Soon()).ok());
  EXPECT_TRUE(store_->Delete("reprise/features/w0", Soon()).ok());
  AwaitKey("addrs/w0");
  AwaitKey("reprise/features/w0");
  const auto second = Begin(1, 2);
  EXPECT_TRUE(first->Wait().ok()) << first->Wait();
  EXPECT_TRUE(second->Wait().ok()) << second->Wait();
}

TEST_F(EpochTest, WhoseMarkTheStoreHasLostEntersAgain) {
  const auto first = Begin(0, 3);
  AwaitKey("addrs/w0");
  const auto second = Begin(1, 3);
  AwaitKey("addrs/w1");
  const std::string mark = MemberKey(1);
  EXPECT_TRUE(store_->Delete("addrs/w1", Soon()).ok());
  EXPECT_TRUE(store_->Delete(mark, Soon()).ok());
  AwaitKey(mark);
  AwaitKey("addrs/w1");
  const auto third = Begin(2, 3);
  EXPECT_TRUE(first->Wait().ok()) << first->Wait();
  EXPECT_TRUE(second->Wait().ok()) << second->Wait();
  EXPECT_TRUE(third->Wait().ok()) << third->Wait();
}

TEST_F(EpochTest, AnEpochDoesNotEndForWhoLookedBeforeItsLastStart) {
  auto second = Begin(1, 2);
  {
    const auto first = Begin(0, 2);
    EXPECT_TRUE(first->Wait().ok()) << first->Wait();
    EXPECT_TRUE(second->Wait().ok()) << second->Wait();
  }
  // It takes all for dead, and comes to a stop before it begins an epoch.
  const std::string unseen = MemberKey(1);
  Gate looked, go_on;
  const auto stops = MakeHookedStore(
      store_,
      [&](const std::string& call, const std::string& key) {
        if (call == "CompareSet" && key == kEpochKey) {
          looked.Open();
          go_on.Wait();
        }
        return absl::OkStatus();
      },
      [&](const std::string& call, const std::string& key) {
        return call == "TryGet" && key == unseen
                   ? absl::NotFoundError("not seen")
                   : absl::OkStatus();
      });
  const auto slow = Begin(0, 2, stops, In(absl::Seconds(10)));
  ASSERT_TRUE(looked.Wait());
  const auto quick = Begin(0, 2);
  EXPECT_TRUE(quick->Wait().ok()) << quick->Wait();
  go_on.Open();
  second->End();
  second = Begin(1, 2);
  EXPECT_EQ(slow->Wait().code(), absl::StatusCode::kAlreadyExists)
      << slow->Wait();
  EXPECT_TRUE(second->Wait().ok()) << second->Wait();
}

TEST_F(EpochTest, AnEpochThatWasGivenUpDoesNotComeBack) {
  const auto first = Begin(0, 2);
  auto second = Begin(1, 2);
  EXPECT_TRUE(first->Wait().ok()) << first->Wait();
  EXPECT_TRUE(second->Wait().ok()) << second->Wait();
  second->End();
  // It is cut off from the first one, and takes it for dead.
  Network cut_off;
  std::vector<Epoch> epochs = {Present()};  // one after another
  const auto watched = MakeHookedStore(
      store_, nullptr, [&](const std::string& call, const std::string& key) {
        if (call != "CompareSet" || key != kEpochKey) return absl::OkStatus();
        Epoch now = Present();
        if (now.text == epochs.back().text) return absl::OkStatus();
        if (epochs.size() == 1) cut_off.Come("w0:1", FormatInstance(1));
        epochs.push_back(std::move(now));
        return absl::OkStatus();
      });
  Entrant mistaken(cut_off, watched, 1, 2, 100, Soon());
  EXPECT_TRUE(mistaken.Wait().ok()) << mistaken.Wait();
  ASSERT_GE(epochs.size(), 3u);
  EXPECT_EQ(epochs[1].before, epochs[0].name);
  EXPECT_EQ(epochs[2].name, epochs[0].name);
  // What a compare-and-set that comes late expects is not there again.
  std::set<std::string> texts = {CompleteText(epochs[0].name, ""),
                                 epochs[0].text};
  for (size_t i = 1; i < epochs.size(); ++i) {
    EXPECT_TRUE(texts.insert(epochs[i].text).second) << epochs[i].text;
  }
}

}  // namespace
}  // namespace reprise::testing

// What a member of a dynamic group logs when it cannot see the group.

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/agent.h"
#include "agent/group/member_list.h"
#include "agent/store/memory_store.h"
#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"
#include "tests/unit/agent/hooked_store.h"

namespace reprise::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

// What is logged of a worker's sight while this lives.
class Lines final : public google::LogSink {
 public:
  explicit Lines(const std::string& worker)
      : worker_(absl::StrCat("worker ", worker, " ")) {
    google::AddLogSink(this);
  }
  ~Lines() override { google::RemoveLogSink(this); }
  Lines(const Lines&) = delete;
  Lines& operator=(const Lines&) = delete;

  void send(google::LogSeverity severity, const char*, const char*, int,
            const struct ::tm*, const char* message, size_t length) override {
    const std::string text(message, length);
    if (!absl::StrContains(text, worker_ + "sees ") &&
        !absl::StrContains(text, worker_ + "cannot see ")) {
      return;
    }
    MutexLock lock(mutex_);
    lines_.push_back(
        absl::StrCat(google::GetLogSeverityName(severity), ": ", text));
    changed_.NotifyAll();
  }

  // Once there are `count`, or far too late; then all.
  std::vector<std::string> WaitFor(size_t count) {
    const absl::Time deadline = Soon();
    MutexLock lock(mutex_);
    while (lines_.size() < count && changed_.WaitUntil(mutex_, deadline)) {
    }
    return lines_;
  }

 private:
  const std::string worker_;
  Mutex mutex_{RealRuntime(), "Lines"};
  CondVar changed_{RealRuntime(), "Lines.changed"};
  std::vector<std::string> lines_;
};

class GroupSightTest : public ::testing::Test {
 protected:
  static std::unique_ptr<Agent> Join(const std::string& name,
                                     std::shared_ptr<Store> store,
                                     absl::Duration refresh) {
    AgentOptions options = Dynamic(name, kAnyId);
    options.membership_refresh = refresh;
    auto agent =
        Agent::Start({&RealRuntime(), std::move(store), &RealTransports()},
                     std::move(options), Echo(), Soon());
    EXPECT_TRUE(agent.ok()) << agent.status();
    return agent.ok() ? *std::move(agent) : nullptr;
  }

  // Until three more looks have begun: two of them are over.
  void AwaitLooks() {
    const int enough = looks_ + 3;
    const absl::Time deadline = Soon();
    while (looks_ < enough && RealRuntime().Now() < deadline) {
      RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(1));
    }
    EXPECT_GE(looks_, enough);
  }

  std::atomic<bool> broken_ = false;
  std::atomic<int> looks_ = 0;
  std::shared_ptr<Store> store_ = MakeMemoryStore(RealRuntime());
  std::shared_ptr<Store> hooked_ = MakeHookedStore(
      store_,
      [this](const std::string& call, const std::string& key) {
        if (call == "TryGet" && key == kMembersKey) ++looks_;
        return broken_ ? absl::InternalError("the store broke")
                       : absl::OkStatus();
      },
      nullptr);
};

TEST_F(GroupSightTest, ItsLossAndItsReturnAreToldOnce) {
  const std::unique_ptr<Agent> b = Join("b", store_, absl::InfiniteDuration());
  ASSERT_NE(b, nullptr);
  Lines lines("a");
  const std::unique_ptr<Agent> a = Join("a", hooked_, absl::Milliseconds(1));
  ASSERT_NE(a, nullptr);

  const std::string members = *store_->TryGet(kMembersKey, Soon());
  ASSERT_TRUE(store_->Set(kMembersKey, "no list", Soon()).ok());
  ASSERT_THAT(lines.WaitFor(1), SizeIs(1));
  AwaitLooks();
  EXPECT_THAT(lines.WaitFor(1), SizeIs(1));
  EXPECT_TRUE(a->Send("b", Request("x")).status().ok());
  ASSERT_TRUE(store_->Set(kMembersKey, members, Soon()).ok());
  ASSERT_THAT(lines.WaitFor(2), SizeIs(2));
  AwaitLooks();

  broken_ = true;
  ASSERT_THAT(lines.WaitFor(3), SizeIs(3));
  AwaitLooks();
  broken_ = false;
  const std::vector<std::string> all = lines.WaitFor(4);
  const auto lost = [](const std::string& why) {
    return AllOf(StartsWith("WARNING: worker a cannot see who is in the group"),
                 HasSubstr("the 2 members that it knows"), HasSubstr(why));
  };
  const auto back = StartsWith("INFO: worker a sees again");
  EXPECT_THAT(all, ElementsAre(lost("cannot be read at line 1"), back,
                               lost("the store broke"), back));
}

TEST_F(GroupSightTest, AnAgentThatEndsHasLostNothing) {
  Lines lines("a");
  for (int i = 0; i < 20; ++i) {
    // It looks all the time, so that its end finds it looking.
    const std::unique_ptr<Agent> a = Join("a", hooked_, absl::Nanoseconds(1));
    ASSERT_NE(a, nullptr);
    AwaitLooks();
    EXPECT_EQ(a->Leave(Soon()), absl::OkStatus());
  }
  EXPECT_THAT(lines.WaitFor(0), IsEmpty());
}

}  // namespace
}  // namespace reprise::testing

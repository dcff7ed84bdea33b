// What a dynamic group is guarded against: a check of liveness that fails, a
// holder of the token that wakes up late, a listener that comes back after its
// worker was replaced; and how a member that leaves is seen.

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/agent.h"
#include "agent/group/liveness_check.h"
#include "agent/store/memory_store.h"
#include "agent/transport/transports.h"
#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensorpipe/core/context.h"
#include "tensorpipe/transport/uv/error.h"
#include "tests/unit/agent/cluster.h"
#include "tests/unit/agent/hooked_store.h"

namespace reprise::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Takes all file descriptors of the process for as long as it lives.
class NoDescriptors {
 public:
  NoDescriptors() {
    getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit few = {std::min<rlim_t>(before_.rlim_cur, 512),
                        before_.rlim_max};
    setrlimit(RLIMIT_NOFILE, &few);
    for (int fd; (fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;) {
      taken_.push_back(fd);
    }
  }
  ~NoDescriptors() {
    for (const int fd : taken_) close(fd);
    setrlimit(RLIMIT_NOFILE, &before_);
  }

 private:
  rlimit before_ = {};
  std::vector<int> taken_;
};

class Warnings final : public google::LogSink {
 public:
  Warnings() { google::AddLogSink(this); }
  ~Warnings() override { google::RemoveLogSink(this); }
  void send(google::LogSeverity severity, const char*, const char*, int,
            const struct ::tm*, const char* message, size_t length) override {
    MutexLock lock(mutex_);
    if (severity == google::GLOG_WARNING) text_.append(message, length);
  }
  std::string text() {
    MutexLock lock(mutex_);
    return text_;
  }

 private:
  Mutex mutex_{RealRuntime(), "Warnings"};
  std::string text_;
};

TEST(LivenessCheckTest, OnlyRefusalsProveDeath) {
  using tensorpipe::Error;
  using tensorpipe::SystemError;
  using tensorpipe::transport::uv::UVError;
  const auto system = [](int code) {
    return Error(std::make_shared<SystemError>("connect", code), "", 0);
  };
  const auto uv = [](int code) {
    return Error(std::make_shared<UVError>(code), "", 0);
  };
  for (const int code : {ECONNREFUSED, ENOENT}) {
    EXPECT_TRUE(ProvesNobodyListens(system(code)));
    EXPECT_TRUE(ProvesNobodyListens(uv(-code)));
  }
  for (const int code : {EMFILE, ENETUNREACH, EHOSTUNREACH, ETIMEDOUT,
                         ECONNRESET, EADDRNOTAVAIL, EACCES}) {
    EXPECT_FALSE(ProvesNobodyListens(system(code))) << code;
    EXPECT_FALSE(ProvesNobodyListens(uv(-code))) << code;
  }
  EXPECT_FALSE(ProvesNobodyListens(
      Error(std::make_shared<tensorpipe::EOFError>(), "", 0)));
}

TEST(LivenessCheckTest, OverARealTransport) {
  const absl::StatusOr<TransportSet> set =
      RealTransports().Make(OptionsFor(0, 1).transport);
  ASSERT_TRUE(set.ok()) << set.status();
  tensorpipe::Context context;
  for (const TransportEntry& transport : set->transports) {
    context.registerTransport(transport.priority, transport.name,
                              transport.context);
  }
  for (const ChannelEntry& channel : set->channels) {
    context.registerChannel(channel.priority, channel.name, channel.context);
  }
  Cluster cluster;
  cluster.Start(1, Echo());
  const std::string address = *cluster.store()->TryGet("addrs/w0", Soon());
  const auto check = [&] {
    return CheckLiveness(RealRuntime(), context, address, AskInstance::kYes,
                         Soon());
  };
  const Liveness alive = check();
  EXPECT_EQ(alive.state, Liveness::State::kAnswered) << alive.cause;
  EXPECT_EQ(alive.instance.size(), 16u) << alive.instance;
  {
    const NoDescriptors none;
    const Liveness failed = check();
    EXPECT_EQ(failed.state, Liveness::State::kFailed) << failed.cause;
    EXPECT_THAT(failed.cause, HasSubstr("EMFILE"));
  }
  EXPECT_EQ(CheckLiveness(RealRuntime(), context, address, AskInstance::kNo,
                          RealRuntime().Now() + absl::Milliseconds(100))
                .state,
            Liveness::State::kSilent);
  cluster.Stop(0);
  EXPECT_EQ(check().state, Liveness::State::kDead);
  EXPECT_EQ(CheckLiveness(RealRuntime(), context, "nowhere", AskInstance::kYes,
                          Soon())
                .state,
            Liveness::State::kFailed);
  context.join();
}

class GroupGuardTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<Agent>> Join(
      AgentOptions options, absl::Time deadline = Soon(),
      std::shared_ptr<Store> store = nullptr) {
    return Agent::Start(
        {&RealRuntime(), store == nullptr ? store_ : store, &RealTransports()},
        std::move(options), Echo(), deadline);
  }
  std::string Value(std::string_view key) {
    return store_->TryGet(key, Soon()).value_or("(none)");
  }
  // Waits until the list of members has, or has not, such a line.
  bool WaitForList(std::string_view text, bool has) {
    const absl::Time end = Soon();
    while ((Value("reprise/members").find(text) != std::string::npos) != has) {
      if (RealRuntime().Now() >= end) return false;
      RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(1));
    }
    return true;
  }

  std::shared_ptr<Store> store_ = MakeMemoryStore(RealRuntime());
};

TEST_F(GroupGuardTest, AJoinerWithoutDescriptorsEvictsNobody) {
  auto a = Join(Dynamic("a", 0));
  ASSERT_TRUE(a.ok()) << a.status();
  std::unique_ptr<NoDescriptors> none;
  std::atomic<int> looks = 0;
  const std::shared_ptr<Store> store = MakeHookedStore(
      store_,
      [&](const std::string& call, const std::string& key) {
        if (call == "TryGet" && key == "addrs/a" && ++looks == 1) {
          none = std::make_unique<NoDescriptors>();
        }
        return absl::OkStatus();
      },
      nullptr);
  const absl::Status twin =
      Join(Dynamic("a", 0), RealRuntime().Now() + absl::Seconds(2), store)
          .status();
  none = nullptr;
  EXPECT_EQ(twin.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(twin.message()),
              HasSubstr("whether worker a of id 0"));
  EXPECT_THAT(std::string(twin.message()), HasSubstr("EMFILE"));
  EXPECT_GT(looks, 1);
  EXPECT_THAT(Value("reprise/members"), HasSubstr("0 a 1 "));
  EXPECT_TRUE((*a)->Send("a", Request("")).status().ok());
}

TEST_F(GroupGuardTest, AHolderThatWakesUpLateChangesNoAddress) {
  Gate stuck, wake;
  const std::shared_ptr<Store> slow = MakeHookedStore(
      store_,
      [&](const std::string& call, const std::string& key) {
        if ((call == "Set" || call == "CompareSet") &&
            (key == "addrs/a" || key == "reprise/members")) {
          stuck.Open();
          wake.Wait();
        }
        return absl::OkStatus();
      },
      nullptr);
  absl::Status late;
  const std::unique_ptr<Thread> thread = RealRuntime().StartThread(
      "late", [&] { late = Join(Dynamic("a", 0), Soon(), slow).status(); });
  ASSERT_TRUE(stuck.Wait());
  auto quick = Join(Dynamic("a", 0));  // it breaks the lease
  ASSERT_TRUE(quick.ok()) << quick.status();
  const std::string address = Value("addrs/a");
  EXPECT_THAT(Value("reprise/members"), HasSubstr(address));
  wake.Open();
  thread->Join();
  EXPECT_EQ(late.code(), absl::StatusCode::kAlreadyExists) << late;
  EXPECT_EQ(Value("addrs/a"), address);
}

TEST_F(GroupGuardTest, AListenerThatComesBackDoesNotTakeASuccessorsAddress) {
  Gate published;
  std::atomic<bool> broken = false;
  const std::shared_ptr<Store> hooked = MakeHookedStore(
      store_, nullptr, [&](const std::string&, const std::string& key) {
        if (broken && key == "addrs/a") published.Open();
        return absl::OkStatus();
      });
  auto a = Join(Dynamic("a", 0), Soon(), hooked);
  ASSERT_TRUE(a.ok()) << a.status();
  const std::string address = Value("addrs/a");
  ASSERT_TRUE(store_->Set("addrs/a", "uv://127.0.0.1:1", Soon()).ok());
  broken = true;
  BreakListener(address);
  ASSERT_TRUE(published.Wait());
  EXPECT_EQ(Value("addrs/a"), "uv://127.0.0.1:1");
}

TEST_F(GroupGuardTest, AKeyedCallReachesAMemberThatLeaves) {
  AgentOptions options = Dynamic("a", 0);
  options.membership_refresh = absl::Hours(1);
  auto b_options = Dynamic("b", 1);
  b_options.membership_refresh = absl::Seconds(2);
  auto b = Join(b_options);
  ASSERT_TRUE(b.ok()) << b.status();
  auto a = Join(options);
  ASSERT_TRUE(a.ok()) << a.status();
  const std::unique_ptr<Thread> leaving =
      RealRuntime().StartThread("leaving", [&] {
        const absl::Status left = (*b)->Leave(Soon());
        EXPECT_TRUE(left.ok()) << left;
      });
  ASSERT_TRUE(WaitForList(" b ", false));
  while (Value("addrs/b").size() > 6) {
    RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(1));
  }
  const absl::Status call =
      (*a)->Send("b", Request(""), {.idempotency_key = "key"}).status();
  EXPECT_TRUE(call.ok()) << call;
  leaving->Join();
}

TEST_F(GroupGuardTest, OnesOwnLeaveIsNoWarning) {
  auto a = Join(Dynamic("a", 0));
  auto b = Join(Dynamic("b", 1));
  ASSERT_TRUE(a.ok() && b.ok());
  ASSERT_TRUE((*a)->WaitForWorker("b", Soon()).ok());
  Warnings warnings;
  ASSERT_TRUE((*a)->Leave(Soon()).ok());
  const absl::Time end = Soon();
  while ((*a)->GetWorkerInfos().size() > 1 && RealRuntime().Now() < end) {
    RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(1));
  }
  EXPECT_EQ((*a)->Shutdown(Soon()), absl::OkStatus());
  EXPECT_THAT(warnings.text(), Not(HasSubstr("is no member")));
}

}  // namespace
}  // namespace reprise::testing

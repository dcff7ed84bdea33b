#include <signal.h>
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/time/time.h"
#include "agent/runtime/runtime.h"
#include "agent/transport/transports.h"
#include "gtest/gtest.h"
#include "tensorpipe/tensorpipe.h"

namespace reprise {
namespace {

constexpr char kLoopback[] = "127.0.0.1";

absl::StatusOr<TransportSet> Make(std::vector<std::string> transports,
                                  std::vector<std::string> channels) {
  return RealTransports().Make(
      {std::move(transports), std::move(channels), kLoopback});
}

using Priorities = std::vector<std::pair<std::string, int64_t>>;

template <typename Entry>
Priorities PrioritiesOf(const std::vector<Entry>& entries) {
  Priorities result;
  for (const Entry& entry : entries) {
    result.emplace_back(entry.name, entry.priority);
  }
  return result;
}

int CountThreads() {
  const auto tasks = std::filesystem::directory_iterator("/proc/self/task");
  return static_cast<int>(std::distance(begin(tasks), end(tasks)));
}

// A joined thread may stay listed for a moment: gives it ten seconds.
bool AwaitThreads(int count) {
  for (int i = 0; i < 10'000 && CountThreads() != count; ++i) {
    RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(1));
  }
  return CountThreads() == count;
}

TEST(RealTransportsTest, DefaultsAreWhatTheProbeFindsViable) {
  Priorities transports;
  Priorities channels;
  for (const TransportProbe& probe : ProbeRealTransports(kLoopback)) {
    if (!probe.viable) continue;
    (probe.kind == "transport" ? transports : channels)
        .emplace_back(probe.name, probe.priority);
  }
  const auto set = Make({}, {});
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ(PrioritiesOf(set->transports), transports);
  EXPECT_EQ(PrioritiesOf(set->channels), channels);
}

TEST(RealTransportsTest, ProbeListsEverythingWithItsPriority) {
  const std::vector<TransportProbe> probes = ProbeRealTransports(kLoopback);
  std::vector<std::string> rows;
  std::map<std::string, TransportProbe> by_name;
  for (const TransportProbe& probe : probes) {
    rows.push_back(probe.kind + " " + probe.name + " " +
                   std::to_string(probe.priority));
    by_name[probe.name] = probe;
    EXPECT_TRUE(probe.viable || !probe.detail.empty()) << probe.name;
    std::printf("%s %s: %s\n", rows.back().c_str(),
                probe.viable ? "viable" : "not viable", probe.detail.c_str());
  }
  EXPECT_EQ(rows,
            (std::vector<std::string>{
                "transport shm 200", "transport ibv 100", "transport uv 0",
                "channel reprise_cma 1250", "channel cma 1200",
                "channel mpt_uv 1100", "channel basic 1000"}));
  // These ask nothing of the machine but loopback.
  EXPECT_TRUE(by_name["uv"].viable) << by_name["uv"].detail;
  EXPECT_TRUE(by_name["mpt_uv"].viable) << by_name["mpt_uv"].detail;
  EXPECT_TRUE(by_name["basic"].viable) << by_name["basic"].detail;
  EXPECT_EQ(by_name["uv"].detail, "127.0.0.1:0");
  // These may ask for too much.
  EXPECT_EQ(by_name["shm"].viable,
            tensorpipe::transport::shm::create()->isViable());
  EXPECT_EQ(by_name["ibv"].viable,
            tensorpipe::transport::ibv::create()->isViable());
  EXPECT_EQ(by_name["cma"].viable,
            tensorpipe::channel::cma::create()->isViable());
}

TEST(RealTransportsTest, ProbeSaysWhyAnAddressDoesNotWork) {
  for (const TransportProbe& probe : ProbeRealTransports("203.0.113.9")) {
    if (probe.name != "uv" && probe.name != "mpt_uv") continue;
    EXPECT_FALSE(probe.viable);
    EXPECT_TRUE(absl::StrContains(probe.detail, "203.0.113.9")) << probe.detail;
  }
}

TEST(RealTransportsTest, TheOrderOfTheListGivesThePriorities) {
  const auto set = Make({"uv", "uv"}, {"basic", "mpt_uv"});
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ(PrioritiesOf(set->transports), (Priorities{{"uv", 1}}));
  EXPECT_EQ(PrioritiesOf(set->channels),
            (Priorities{{"basic", 1}, {"mpt_uv", 0}}));
  EXPECT_EQ(set->transports[0].address, "127.0.0.1:0");
}

TEST(RealTransportsTest, CmaIsForPeersOfEitherKind) {
  const auto set = Make({"uv"}, {"cma", "basic"});
  ASSERT_TRUE(set.ok()) << set.status();
  if (set->channels.size() == 1) GTEST_SKIP() << "cma does not work here";
  EXPECT_EQ(PrioritiesOf(set->channels),
            (Priorities{{"reprise_cma", 2}, {"cma", 1}, {"basic", 0}}));
}

TEST(RealTransportsTest, RefusesUnknownNames) {
  const absl::Status transport = Make({"uv", "tcp"}, {}).status();
  EXPECT_EQ(transport.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(transport.message(), "Unknown transport: tcp");
  const absl::Status channel = Make({"uv"}, {"basic", "xth"}).status();
  EXPECT_EQ(channel.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(channel.message(), "Unknown channel: xth");
}

TEST(RealTransportsTest, WhatDoesNotWorkIsLeftOutOrNamed) {
  for (const TransportProbe& probe : ProbeRealTransports(kLoopback)) {
    if (probe.viable || probe.kind != "transport") continue;
    const absl::Status alone = Make({probe.name}, {"basic"}).status();
    EXPECT_EQ(alone.code(), absl::StatusCode::kUnavailable);
    EXPECT_TRUE(
        absl::StrContains(alone.message(), probe.name + ": " + probe.detail))
        << alone;
    const auto with_uv = Make({probe.name, "uv"}, {"basic"});
    ASSERT_TRUE(with_uv.ok()) << with_uv.status();
    EXPECT_EQ(PrioritiesOf(with_uv->transports), (Priorities{{"uv", 0}}));
  }
}

TEST(RealTransportsTest, RefusesAnAddressItCannotListenAt) {
  const auto status = [](const char* address) {
    return RealTransports().Make({{"uv"}, {"basic"}, address}).status();
  };
  EXPECT_EQ(status("203.0.113.9").code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(status("nonsense").code(), absl::StatusCode::kInvalidArgument);
  // mpt_uv listens too, whatever the transport.
  EXPECT_EQ(RealTransports()
                .Make({{"uv"}, {"mpt_uv"}, "203.0.113.9"})
                .status()
                .code(),
            absl::StatusCode::kUnavailable);
}

TEST(RealTransportsTest, DestroyingTheSetEndsItsThreads) {
  const int before = CountThreads();
  {
    const auto set = Make({}, {});
    ASSERT_TRUE(set.ok()) << set.status();
    EXPECT_GT(CountThreads(), before);
  }
  EXPECT_TRUE(AwaitThreads(before)) << CountThreads() - before << " are left";
  ProbeRealTransports(kLoopback);
  EXPECT_TRUE(AwaitThreads(before)) << CountThreads() - before << " are left";
}

void (*SigpipeHandler())(int) {
  struct sigaction action = {};
  sigaction(SIGPIPE, nullptr, &action);
  return action.sa_handler;
}

TEST(RealTransportsTest, IgnoresSigpipeUnlessItIsHandled) {
  signal(SIGPIPE, SIG_DFL);
  ASSERT_TRUE(Make({"uv"}, {"basic"}).ok());
  EXPECT_EQ(SigpipeHandler(), SIG_IGN);
  const auto handler = [](int) {};
  signal(SIGPIPE, handler);
  ASSERT_TRUE(Make({"uv"}, {"basic"}).ok());
  EXPECT_EQ(SigpipeHandler(), static_cast<void (*)(int)>(handler));
  signal(SIGPIPE, SIG_IGN);
}

// In a process of its own, because the limit is raised once.
TEST(RealTransportsDeathTest, TheLimitOfOpenFilesIsRaised) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const auto make_with_low_limit = [] {
    rlimit limit = {};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max - 1;
    setrlimit(RLIMIT_NOFILE, &limit);
    EXPECT_TRUE(Make({"uv"}, {"basic"}).ok());
    getrlimit(RLIMIT_NOFILE, &limit);
    const bool is_raised = limit.rlim_cur == limit.rlim_max;
    // What the program sets later stays.
    --limit.rlim_cur;
    setrlimit(RLIMIT_NOFILE, &limit);
    EXPECT_TRUE(Make({"uv"}, {"basic"}).ok());
    getrlimit(RLIMIT_NOFILE, &limit);
    const bool stays = limit.rlim_cur == limit.rlim_max - 1;
    std::_Exit(is_raised && stays ? 0 : 1);
  };
  EXPECT_EXIT(make_with_low_limit(), testing::ExitedWithCode(0), "");
}

// TensorPipe would abort in its loop.
TEST(RealTransportsDeathTest, TooFewFileDescriptorsAreAnError) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const auto make_with_limit = [](rlim_t limit) {
    // UBSan looks a type that it has not seen yet up through a pipe.
    EXPECT_TRUE(Make({"uv"}, {"mpt_uv"}).ok());
    const rlimit limits = {limit, limit};
    setrlimit(RLIMIT_NOFILE, &limits);
    const absl::Status status = Make({"uv"}, {"mpt_uv"}).status();
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    std::_Exit(status.code() == absl::StatusCode::kUnavailable ? 0 : 1);
  };
  for (const rlim_t limit : {4, 12, 16, 40, 64, 100}) {
    EXPECT_EXIT(make_with_limit(limit), testing::ExitedWithCode(0),
                "file descriptors|open files")
        << limit;
  }
}

}  // namespace
}  // namespace reprise

// Agents in a process that runs out of memory, over real transports.

#include <sys/resource.h>

#include <cstddef>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/agent.h"
#include "agent/device/tensor.h"
#include "agent/runtime/memory_reserve.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"

namespace reprise::testing {
namespace {

using ::testing::HasSubstr;

// Lets this process map `more` bytes and no more.
void LimitMemory(size_t more) {
  std::ifstream statm("/proc/self/statm");
  size_t pages = 0;
  statm >> pages;
  rlimit limit = {};
  ASSERT_EQ(getrlimit(RLIMIT_AS, &limit), 0);
  limit.rlim_cur = pages * 4096 + more;
  ASSERT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
}

void LiftLimit() {
  rlimit limit = {};
  ASSERT_EQ(getrlimit(RLIMIT_AS, &limit), 0);
  limit.rlim_cur = limit.rlim_max;
  ASSERT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
}

// Small messages that nobody answers before the gate opens: each holds some
// memory at both ends.
TEST(LittleMemoryTest, CallsAreRefusedAndWorkOnceThereIsMemory) {
  Gate gate;
  Cluster cluster;
  cluster.Start(2, EchoAfter(gate), [](AgentOptions& options) {
    options.num_worker_threads = 1;
    options.server_bounds.queued_per_peer = {1'000'000, size_t{1} << 40};
    options.server_bounds.queued_in_all = {1'000'000, size_t{1} << 40};
  });
  const Future first = cluster[0].Send("w1", Request("first"));
  LimitMemory(size_t{24} << 20);
  std::vector<Future> calls;
  size_t refused_at_once = 0;
  const absl::Time deadline = Soon();
  while (refused_at_once < 100 && RealRuntime().Now() < deadline) {
    const Future call =
        cluster[0].Send("w1", Request(std::string(10'000, 'x')));
    if (call.Wait(RealRuntime().Now())) {
      EXPECT_TRUE(absl::IsResourceExhausted(call.status())) << call.status();
      ++refused_at_once;
    } else {
      calls.push_back(call);
    }
  }
  EXPECT_EQ(refused_at_once, 100);
  LiftLimit();
  gate.Open();
  ASSERT_TRUE(first.Wait(Soon()));
  EXPECT_TRUE(first.status().ok()) << first.status();
  size_t good = 0;
  for (const Future& call : calls) {
    ASSERT_TRUE(call.Wait(Soon()));
    if (call.status().ok()) {
      ++good;
    } else {
      EXPECT_TRUE(absl::IsResourceExhausted(call.status()) ||
                  absl::IsUnavailable(call.status()))
          << call.status();
    }
  }
  EXPECT_GT(good, 100u);
  const Future last = cluster[0].Send("w1", Request("last"));
  ASSERT_TRUE(last.Wait(Soon()));
  EXPECT_TRUE(last.status().ok()) << last.status();
}

}  // namespace
}  // namespace reprise::testing

// Runs whose threads are OS threads leave nothing in their process: no thread,
// no descriptor, no mapping and no memory, although workers crash in them.

#include <gtest/gtest.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <mutex>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "sim/explore/sim_run.h"
#include "sim/scenario/scenario.h"

namespace reprise {
namespace {

// More by hand: LEAK_SEEDS=1000 .../thread_leaks_test
uint64_t NumSeeds() {
  const char* const given = getenv("LEAK_SEEDS");
  return given == nullptr ? 60 : strtoull(given, nullptr, 10);
}

// What is lost with each seed adds up to more than this.
constexpr int64_t kNoise = 1 << 20;

int64_t NumEntries(const char* directory) {
  const std::filesystem::directory_iterator entries(directory);
  return std::distance(begin(entries), end(entries));
}

struct Holdings {
  int64_t threads = NumEntries("/proc/self/task");
  int64_t descriptors = NumEntries("/proc/self/fd");
  int64_t mappings = 0;
  int64_t bytes = 0;  // in memory

  Holdings() {
    std::ifstream maps("/proc/self/maps");
    mappings = std::count(std::istreambuf_iterator<char>(maps),
                          std::istreambuf_iterator<char>(), '\n');
    int64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages >> pages;
    bytes = pages * sysconf(_SC_PAGESIZE);
  }
};

// Whether so much more is held now that something was left behind.
std::string WhatIsLeft(const Holdings& before, const Holdings& after) {
  std::string left;
  int64_t threads = after.threads;
  // A thread that was joined is in the list for a moment more.
  for (int i = 0; i < 100 && threads > before.threads; ++i) {
    usleep(10'000);
    threads = NumEntries("/proc/self/task");
  }
  if (threads > before.threads) left += " threads";
  if (after.descriptors > before.descriptors) left += " descriptors";
  // A few come and go with the heap.
  if (after.mappings > before.mappings + 20) left += " mappings";
  if (after.bytes > before.bytes + kNoise) left += " memory";
  return left;
}

TEST(ThreadLeaksTest, WhatIsLeftIsSeen) {
  const Holdings before;
  EXPECT_EQ(WhatIsLeft(before, Holdings()), "");

  const int descriptor = dup(STDERR_FILENO);
  EXPECT_EQ(WhatIsLeft(before, Holdings()), " descriptors");
  close(descriptor);

  std::mutex mutex;
  std::condition_variable changed;
  bool ends = false;
  std::thread thread([&] {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [&] { return ends; });
  });
  EXPECT_EQ(WhatIsLeft(before, Holdings()), " threads");
  {
    const std::lock_guard<std::mutex> lock(mutex);
    ends = true;
  }
  changed.notify_all();
  thread.join();

  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t size = 512 * page;  // 2 MiB
  void* const memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  memset(memory, 1, size);
  EXPECT_EQ(WhatIsLeft(before, Holdings()), " memory");
  for (size_t at = 0; at < size; at += 2 * page) {
    mprotect(static_cast<char*>(memory) + at, page, PROT_READ);
  }
  EXPECT_EQ(WhatIsLeft(before, Holdings()), " mappings memory");
  munmap(memory, size);
  EXPECT_EQ(WhatIsLeft(before, Holdings()), "");
}

// The second time there is nothing that the process has not done before.
void ExpectNothingIsLeft(const SimRunOptions& options) {
  const auto run_all = [&options] {
    SimRunOptions run = options;
    for (uint64_t seed = 1; seed <= NumSeeds(); ++seed) {
      run.seed = seed;
      const absl::StatusOr<RunResult> result = RunSimulated(run);
      ASSERT_TRUE(result.ok()) << result.status();
      ASSERT_TRUE(result->held()) << result->rule << " in seed " << seed;
    }
  };
  run_all();
  const Holdings before;
  run_all();
  const Holdings after;
  EXPECT_EQ(WhatIsLeft(before, after), "");
  std::cout << "after " << NumSeeds() << " seeds, and again: threads "
            << before.threads << ", " << after.threads << "; descriptors "
            << before.descriptors << ", " << after.descriptors << "; mappings "
            << before.mappings << ", " << after.mappings << "; KiB in memory "
            << before.bytes / 1024 << ", " << after.bytes / 1024 << "\n";
}

SimRunOptions OptionsFor(const std::string& scenario) {
  SimRunOptions options;
  options.scenario = &AllScenarios().find(scenario)->second;
  options.params = options.scenario->params;
  options.schedule.context = ContextKind::kThreads;
  return options;
}

TEST(ThreadLeaksTest, OfTheSimulatedRuntime) {
  ExpectNothingIsLeft(OptionsFor("peer_dies"));
}

TEST(ThreadLeaksTest, OfTheRealRuntime) {
  SimRunOptions options = OptionsFor("peer_dies");
  options.runtime = RuntimeKind::kReal;
  ExpectNothingIsLeft(options);
}

// Threads of std::, which end by themselves.
TEST(ThreadLeaksTest, OfAServiceWithThreadsOfItsOwn) {
  ExpectNothingIsLeft(OptionsFor("counter_cache"));
}

}  // namespace
}  // namespace reprise

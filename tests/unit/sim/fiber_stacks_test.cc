#include "sim/world/fiber_stacks.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "sim/world/arena.h"
#include "sim/world/fiber.h"
#include "tests/unit/sim/sim_testing.h"

namespace reprise {
namespace {

size_t NumResidentPages(const Fiber& fiber) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> pages(fiber.stack.size / page);
  EXPECT_EQ(mincore(fiber.stack.low, fiber.stack.size, pages.data()), 0);
  return static_cast<size_t>(
      std::count_if(pages.begin(), pages.end(),
                    [](unsigned char page) { return (page & 1) != 0; }));
}

[[gnu::noinline]] void TouchMuchStack() {
  char frame[size_t{64} << 10];
  std::memset(frame, 1, sizeof(frame));
  asm volatile("" : : "r"(frame) : "memory");
}

TEST(FiberStacksTest, WhatADeeperCallHasTouchedIsGivenBack) {
  if (!kHasArena) GTEST_SKIP() << "the sanitizer keeps account of stacks";
  TestWorld world;
  size_t before = 0;
  size_t after = 0;
  std::string kept;
  world.Start(0, "main", [&] {
    const Fiber& self = *world->scheduler().current();
    const std::string local = "kept";
    TouchMuchStack();
    before = NumResidentPages(self);
    ReleaseUnusedStack(self);
    after = NumResidentPages(self);
    kept = local;
  });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_GE(before, 16u);
  EXPECT_LE(after, 4u);
  EXPECT_EQ(kept, "kept");
}

}  // namespace
}  // namespace reprise

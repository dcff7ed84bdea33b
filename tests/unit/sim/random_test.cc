#include "sim/random.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <type_traits>
#include <utility>
#include <vector>

namespace reprise {
namespace {

// Every compiler must draw these.
TEST(DrawsTest, TheNumbersAreTheSameEverywhere) {
  Draws draws(1, "calls");
  EXPECT_EQ(draws.Bits("bits"), 0x47cab0d3d32d1f9bu);
  EXPECT_EQ(draws.Between("between", -1000, 1000), 467);
  EXPECT_EQ(draws.Part("part").Bits("bits"), 0x1f2ba452eacb4af6u);
}

std::pair<uint64_t, uint64_t> DrawTwo(bool first_comes_first) {
  Draws draws(7, "calls");
  uint64_t first = 0;
  uint64_t second = 0;
  for (const bool is_first : {first_comes_first, !first_comes_first}) {
    if (is_first) {
      first = draws.Bits("first");
    } else {
      second = draws.Bits("second");
    }
  }
  return {first, second};
}

TEST(DrawsTest, TheOrderOfDifferentNamesDoesNotMatter) {
  EXPECT_EQ(DrawTwo(true), DrawTwo(false));
  EXPECT_NE(DrawTwo(true).first, DrawTwo(true).second);
}

TEST(DrawsTest, ANameGivesAnotherNumberEachTime) {
  Draws draws(7, "calls");
  std::set<uint64_t> numbers;
  for (int i = 0; i < 100; ++i) numbers.insert(draws.Bits("number"));
  EXPECT_EQ(numbers.size(), 100u);
}

TEST(DrawsTest, SeedStreamAndNameEachMakeAnotherNumber) {
  std::set<uint64_t> numbers;
  for (uint64_t seed : {1, 2}) {
    for (const char* stream : {"calls", "faults"}) {
      Draws draws(seed, stream);
      numbers.insert(draws.Bits("a"));
      numbers.insert(draws.Bits("b"));
      numbers.insert(draws.Part("c").Bits("a"));
      numbers.insert(draws.Part("d").Bits("a"));
    }
  }
  EXPECT_EQ(numbers.size(), 16u);
}

TEST(DrawsTest, PartsOfOneNameDiffer) {
  Draws draws(7, "calls");
  std::set<uint64_t> numbers;
  for (int i = 0; i < 100; ++i) numbers.insert(draws.Part("part").Bits("a"));
  EXPECT_EQ(numbers.size(), 100u);
}

TEST(DrawsTest, BoundsAreReachedAndKept) {
  Draws draws(7, "calls");
  std::set<int64_t> numbers;
  for (int i = 0; i < 200; ++i) numbers.insert(draws.Between("number", -1, 2));
  EXPECT_EQ(numbers, (std::set<int64_t>{-1, 0, 1, 2}));
  EXPECT_EQ(draws.Below("none", 0), 0u);
}

// A copy would draw the same numbers again.
static_assert(!std::is_copy_constructible_v<Draws>);
static_assert(!std::is_copy_assignable_v<Draws>);

uint64_t DrawUnder(Draws& draws, DrawName name) { return draws.Bits(name); }

uint64_t DrawTwiceInOneLine() {
  Draws draws(7, "calls");
  return draws.Bits("a") + draws.Bits("a");
}

uint64_t DrawTwiceByAFunction() {
  Draws draws(7, "calls");
  return DrawUnder(draws, "b") + DrawUnder(draws, "b");
}

TEST(DrawsDeathTest, ANameAtTwoPlacesEndsTheProcess) {
  EXPECT_DEATH(DrawTwiceInOneLine(),
               "the draw \"a\" is made at two places, .*random_test.cc:");
  EXPECT_DEATH(DrawTwiceByAFunction(),
               "the draw \"b\" is made at two places, .*random_test.cc:");
  Draws draws(7, "calls");
  const auto draw_c = [&] { return draws.Bits("c"); };
  EXPECT_NE(draw_c(), draw_c());
}

}  // namespace
}  // namespace reprise

#include "agent/runtime/fifo.h"

#include <memory>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace reprise {
namespace {

using ::testing::ElementsAre;

template <typename T>
std::vector<T> All(const Fifo<T>& queue) {
  return std::vector<T>(queue.begin(), queue.end());
}

TEST(FifoTest, TheOldestComesFirstHoweverItGrows) {
  Fifo<int> queue;
  int next_in = 0;
  int next_out = 0;
  // It fills and empties again and again, further each time.
  for (int most = 1; most < 100; ++most) {
    while (static_cast<int>(queue.size()) < most) queue.push_back(next_in++);
    while (static_cast<int>(queue.size()) > most / 3) {
      ASSERT_EQ(queue.front(), next_out++);
      queue.pop_front();
    }
  }
  EXPECT_EQ(All(queue).size(), queue.size());
  EXPECT_EQ(All(queue).front(), next_out);
  EXPECT_EQ(All(queue).back(), next_in - 1);
}

TEST(FifoTest, WhatWasTakenIsDestroyedAtOnce) {
  Fifo<std::shared_ptr<int>> queue;
  const auto first = std::make_shared<int>(1);
  queue.push_back(first);
  queue.push_back(std::make_shared<int>(2));
  queue.pop_front();
  EXPECT_EQ(first.use_count(), 1);
  EXPECT_EQ(*queue.front(), 2);
}

TEST(FifoTest, TheFrontMayComeBack) {
  Fifo<int> queue;
  queue.push_back(2);
  queue.push_front(1);
  queue.push_back(3);
  EXPECT_THAT(All(queue), ElementsAre(1, 2, 3));
  queue.pop_front();
  queue.push_front(4);
  EXPECT_THAT(All(queue), ElementsAre(4, 2, 3));
}

TEST(FifoTest, SomeMayBeErased) {
  Fifo<int> queue;
  for (int i = 0; i < 6; ++i) queue.push_back(i);
  queue.pop_front();
  queue.EraseIf([](int i) { return i % 2 == 0; });
  EXPECT_THAT(All(queue), ElementsAre(1, 3, 5));
  queue.EraseIf([](int) { return true; });
  EXPECT_TRUE(queue.empty());
  queue.push_back(7);
  EXPECT_THAT(All(queue), ElementsAre(7));
}

TEST(FifoTest, WhatWasMovedFromIsEmpty) {
  Fifo<int> queue;
  for (int i = 0; i < 3; ++i) queue.push_back(i);
  queue.pop_front();
  Fifo<int> other = std::move(queue);
  EXPECT_TRUE(queue.empty());  // NOLINT(bugprone-use-after-move)
  EXPECT_THAT(All(other), ElementsAre(1, 2));
  queue.push_back(9);
  queue = std::move(other);
  EXPECT_THAT(All(queue), ElementsAre(1, 2));
}

}  // namespace
}  // namespace reprise

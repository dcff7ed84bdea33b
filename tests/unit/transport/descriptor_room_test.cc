#include "agent/transport/descriptor_room.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace reprise {
namespace {

using ::testing::ElementsAre;

constexpr int64_t kForOne = DescriptorRoom::kPerPipe;

// Rooms are never destroyed: their threads may still look.
DescriptorRoom& KeepForEver(DescriptorRoom* room) {
  static std::vector<DescriptorRoom*>* const rooms =
      new std::vector<DescriptorRoom*>();
  rooms->push_back(room);
  return *room;
}

DescriptorRoom& MakeRoom(std::atomic<int64_t>& free) {
  return KeepForEver(new DescriptorRoom([&free] { return free.load(); }));
}

TEST(DescriptorRoomTest, CountsWhatIsSpare) {
  const int64_t before = CountSpareDescriptors();
  const int file = eventfd(0, EFD_CLOEXEC);
  EXPECT_EQ(CountSpareDescriptors(), before - 1);
  // Also when the lowest number that is free lies below others.
  const int above = eventfd(0, EFD_CLOEXEC);
  close(file);
  EXPECT_EQ(CountSpareDescriptors(), before - 1);
  close(above);
  EXPECT_EQ(CountSpareDescriptors(), before);
}

TEST(DescriptorRoomTest, BeginsAtOnceWhatThereIsRoomFor) {
  static std::atomic<int64_t> free = kForOne + DescriptorRoom::kPerPipe;
  DescriptorRoom& room = MakeRoom(free);
  std::vector<DescriptorRoom::Ticket> tickets;
  const auto begin = [&](DescriptorRoom::Ticket ticket) {
    tickets.push_back(std::move(ticket));
  };
  room.Await(begin);
  EXPECT_EQ(tickets.size(), 1u);
  room.Await(begin);
  EXPECT_EQ(tickets.size(), 2u);
  // A pipe that has ended gives its room back.
  tickets.clear();
  room.Await(begin);
  EXPECT_EQ(tickets.size(), 1u);
}

TEST(DescriptorRoomTest, OthersWaitTheirTurn) {
  static std::atomic<int64_t> free = kForOne - 1;
  static std::atomic<int> begun = 0;
  static std::vector<int> order;  // only the thread of the room writes to it
  DescriptorRoom& room = MakeRoom(free);
  for (int i = 1; i <= 3; ++i) {
    // Each gives its room back at once.
    room.Await([i](const DescriptorRoom::Ticket& ticket) {
      EXPECT_NE(ticket, nullptr);
      order.push_back(i);
      ++begun;
    });
  }
  EXPECT_EQ(begun, 0);
  free = kForOne;
  while (begun < 3) std::this_thread::yield();
  EXPECT_THAT(order, ElementsAre(1, 2, 3));
}

TEST(DescriptorRoomTest, NobodyWaitsForEver) {
  static std::atomic<bool> has_ended = false;
  DescriptorRoom& room = KeepForEver(new DescriptorRoom(
      [] { return kForOne - 1; }, std::chrono::milliseconds(1)));
  room.Await([](const DescriptorRoom::Ticket& ticket) {
    EXPECT_EQ(ticket, nullptr);
    has_ended = true;
  });
  while (!has_ended) std::this_thread::yield();
}

TEST(DescriptorRoomTest, AReservationEnds) {
  static std::atomic<int64_t> free = kForOne;
  static std::atomic<bool> has_begun = false;
  DescriptorRoom& room = MakeRoom(free);
  DescriptorRoom::Ticket kept;
  room.Await([&](DescriptorRoom::Ticket ticket) { kept = std::move(ticket); });
  room.Await([](const DescriptorRoom::Ticket&) { has_begun = true; });
  while (!has_begun) std::this_thread::yield();
  EXPECT_NE(kept, nullptr);
}

}  // namespace
}  // namespace reprise

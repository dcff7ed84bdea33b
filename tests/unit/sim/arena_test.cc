#include "sim/world/arena.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <new>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "agent/runtime/mutex.h"
#include "gtest/gtest.h"
#include "tests/unit/sim/network_testing.h"
#include "tests/unit/sim/sim_testing.h"

namespace reprise {
namespace {

class ArenaTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!kHasArena) GTEST_SKIP() << "the sanitizer has a heap of its own";
  }
};

TEST_F(ArenaTest, CountsWhatIsAlive) {
  int64_t live = -1;
  int* leaked = nullptr;
  {
    ArenaScope arena;
    auto kept = std::make_unique<int>(1);
    { auto freed = std::make_unique<std::string>(1000, 'x'); }
    leaked = new int(2);
    kept = nullptr;
    live = arena.live_allocations();
  }
  EXPECT_EQ(live, 1);
  // NOLINTNEXTLINE(clang-analyzer-cplusplus.NewDeleteLeaks): it is to leak
  EXPECT_NE(leaked, nullptr);
  {
    ArenaScope arena;
    live = arena.live_allocations();
  }
  EXPECT_EQ(live, 0) << "a leak of one run was counted in the next";
}

TEST_F(ArenaTest, GivesMemoryOfEverySizeAndAlignment) {
  int64_t live = -1;
  {
    ArenaScope arena;
    std::vector<std::pair<unsigned char*, size_t>> blocks;
    for (size_t size = 0; size < 5000; size += 7) {
      blocks.emplace_back(static_cast<unsigned char*>(::operator new(size)),
                          size);
    }
    for (size_t size :
         {size_t{1} << 16, (size_t{1} << 20) + 1, size_t{10} << 20}) {
      blocks.emplace_back(static_cast<unsigned char*>(::operator new(size)),
                          size);
    }
    for (size_t i = 0; i < blocks.size(); ++i) {
      ASSERT_EQ(reinterpret_cast<uintptr_t>(blocks[i].first) % 16, 0u);
      std::fill_n(blocks[i].first, blocks[i].second,
                  static_cast<unsigned char>(i));
    }
    for (size_t i = 0; i < blocks.size(); ++i) {
      const auto& [block, size] = blocks[i];
      for (size_t k = 0; k < size; ++k) {
        ASSERT_EQ(block[k], static_cast<unsigned char>(i));
      }
      ::operator delete(block);
    }
    for (size_t alignment = 32; alignment <= 4096; alignment *= 2) {
      for (size_t size : {1, 100, 5000}) {
        void* block = ::operator new(size, std::align_val_t(alignment));
        ASSERT_EQ(reinterpret_cast<uintptr_t>(block) % alignment, 0u);
        std::fill_n(static_cast<char*>(block), size, 'x');
        ::operator delete(block, std::align_val_t(alignment));
      }
    }
    // The vector itself holds one allocation.
    live = arena.live_allocations() - 1;
  }
  EXPECT_EQ(live, 0);
}

TEST_F(ArenaTest, RefusesWhatNobodyHas) {
  bool threw = false;
  void* block = &threw;
  {
    ArenaScope arena;
    volatile size_t size = size_t{1} << 50;
    block = ::operator new(size, std::nothrow);
    try {
      ::operator delete(::operator new(size));
    } catch (const std::bad_alloc&) {
      threw = true;
    }
  }
  EXPECT_EQ(block, nullptr);
  EXPECT_TRUE(threw);
}

// Where the blocks of a few allocations lie, as ranks in order of address.
std::vector<int> OrderOfAddresses(uint64_t scatter) {
  constexpr int kBlocks = 40;
  char* blocks[kBlocks];
  uintptr_t addresses[kBlocks];
  {
    ArenaScope arena(scatter);
    for (int i = 0; i < kBlocks; ++i) {
      blocks[i] = new char[24 + i % 3];
      addresses[i] = reinterpret_cast<uintptr_t>(blocks[i]);
      if (i % 5 == 4) delete[] blocks[i - 2];
    }
  }
  std::vector<int> order(kBlocks);
  for (int i = 0; i < kBlocks; ++i) {
    order[i] = static_cast<int>(
        std::count_if(std::begin(addresses), std::end(addresses),
                      [&](uintptr_t a) { return a < addresses[i]; }));
  }
  return order;
}

TEST_F(ArenaTest, ScatteringChangesTheOrderOfAddresses) {
  EXPECT_EQ(OrderOfAddresses(0), OrderOfAddresses(0));
  EXPECT_EQ(OrderOfAddresses(7), OrderOfAddresses(7));
  std::set<std::vector<int>> orders;
  for (uint64_t scatter = 0; scatter < 20; ++scatter) {
    orders.insert(OrderOfAddresses(scatter));
  }
  EXPECT_EQ(orders.size(), 20u);
}

TEST_F(ArenaTest, ScatteredMemoryIsNotShared) {
  for (uint64_t scatter = 1; scatter < 20; ++scatter) {
    ArenaScope arena(scatter);
    std::vector<std::string*> strings;
    for (size_t i = 0; i < 500; ++i) {
      strings.push_back(new std::string(i, static_cast<char>('a' + i % 26)));
      if (i % 3 == 0) {
        delete strings[i / 2];
        strings[i / 2] =
            new std::string(i / 2, static_cast<char>('a' + (i / 2) % 26));
      }
    }
    for (size_t i = 0; i < 500; ++i) {
      const bool same =
          *strings[i] == std::string(i, static_cast<char>('a' + i % 26));
      if (!same) {
        ArenaPause pause;
        FAIL() << i;
      }
    }
  }
}

// A compiler may leave out an allocation whose memory nobody looks at.
void LookAt(const void* memory) { asm volatile("" : : "r"(memory) : "memory"); }

TEST_F(ArenaTest, APauseAllocatesWhatStays) {
  std::string* outside = nullptr;
  int64_t live = -1;
  {
    ArenaScope arena;
    auto inside = std::make_unique<int>(1);
    LookAt(inside.get());
    {
      ArenaPause pause;
      outside = new std::string(100, 'o');
    }
    live = arena.live_allocations();
  }
  {
    ArenaScope another;
    std::vector<char> overwrite(100'000, 'z');
  }
  EXPECT_EQ(*outside, std::string(100, 'o'));
  EXPECT_EQ(live, 1);
  delete outside;
}

// Foreign code may keep what it has in the order of addresses or of their
// hashes.
TEST_F(ArenaTest, ArenasLieAtTheSameAddressesInEachProcess) {
  ArenaScope arena;
  const auto inside = std::make_unique<int>(1);
  LookAt(inside.get());
  constexpr int kTebibyte = 40;
  EXPECT_EQ(reinterpret_cast<uintptr_t>(inside.get()) >> kTebibyte, 0x10u);
}

// Reads freed memory, which the compiler must not know.
uintptr_t WordAt(const void* memory, int index) {
  LookAt(memory);
  return static_cast<const volatile uintptr_t*>(memory)[index];
}

TEST_F(ArenaTest, FreedMemoryIsPoisonedIfAsked) {
  for (const bool poison : {false, true}) {
    ArenaScope arena(/*scatter=*/0, poison);
    auto* const first = new uintptr_t[4]{1, 2, 3, 4};
    auto* const second = new uintptr_t[4]{5, 6, 7, 8};
    const auto first_address = reinterpret_cast<uintptr_t>(first);
    delete[] first;
    delete[] second;
    // The second leads to the first, unless it is poisoned.
    EXPECT_EQ(WordAt(second, 0) == first_address, !poison);
    EXPECT_EQ(WordAt(second, 3) == 8, !poison);
    // What was freed is used again, the last first.
    auto* const again = new uintptr_t[4];
    auto* const another = new uintptr_t[4];
    EXPECT_EQ(again, second);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(another), first_address);
    delete[] again;
    delete[] another;
  }
}

TEST_F(ArenaTest, WhatWasMadeOutsideMayBeFreedInside) {
  auto before = std::make_unique<std::string>(100, 'b');
  int64_t live = -1;
  {
    ArenaScope arena;
    before = nullptr;
    live = arena.live_allocations();
  }
  EXPECT_EQ(live, 0);
}

TEST_F(ArenaTest, EachThreadHasItsOwn) {
  int64_t live[4] = {};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t, &live] {
      for (int round = 0; round < 200; ++round) {
        ArenaScope arena;
        std::vector<std::unique_ptr<std::string>> strings;
        for (int i = 0; i < 50; ++i) {
          strings.push_back(
              std::make_unique<std::string>(100, static_cast<char>('a' + t)));
        }
        for (const auto& string : strings) {
          if ((*string)[99] != 'a' + t) live[t] = 1'000'000;
        }
        strings.clear();
        live[t] += arena.live_allocations();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  // `strings` itself may keep a block.
  for (int t = 0; t < 4; ++t) EXPECT_LE(live[t], 200);
}

// There are many more threads, one after another, than arenas.
TEST_F(ArenaTest, ThreadsThatEndGiveTheirsBack) {
  for (int t = 0; t < 200; ++t) {
    int64_t live = -1;
    std::thread([&live] {
      ArenaScope arena;
      LookAt(new int(1));
      live = arena.live_allocations();
      // NOLINTNEXTLINE(clang-analyzer-cplusplus.NewDeleteLeaks): it is to leak
    }).join();
    ASSERT_EQ(live, 1) << t;
  }
}

int64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  int64_t total = 0;
  int64_t resident = 0;
  file >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

int64_t AddressSpaceBytes() {
  std::ifstream file("/proc/self/statm");
  int64_t total = 0;
  file >> total;
  return total * sysconf(_SC_PAGESIZE);
}

// A parcel that goes over the network, and a crash of either end on its way.
void RunWithACrash(uint64_t seed) {
  ArenaScope arena;
  WorldOptions options = With(Policy::kRandom, seed);
  options.keep_trace = false;
  auto* const world = new NetworkWorld(options);
  new Exchange(*world, {"payload", std::string(2000, 'x')}, kSecond);
  const int64_t crash_ns = static_cast<int64_t>(seed % 50) * 15 * kMicrosecond;
  world->world()->At(crash_ns, {0, 0}, [world, seed] {
    world->world()->Crash(world->world().node(static_cast<int32_t>(seed % 2)));
  });
  world->Run();
  // Only the stacks are not in the arena.
  world->world()->scheduler().ReturnStacks();
}

TEST_F(ArenaTest, AbandonedMemoryIsReclaimed) {
  // Objects that are made once for the process are made outside the arena.
  {
    NetworkWorld world;
    Exchange exchange(world, {"payload", "tensor"});
    EXPECT_EQ(world.Run(), Outcome::kFinished);
  }
  for (uint64_t seed = 1; seed <= 500; ++seed) RunWithACrash(seed);
  const int64_t resident = ResidentBytes();
  const int64_t address_space = AddressSpaceBytes();
  for (uint64_t seed = 501; seed <= 10'000; ++seed) RunWithACrash(seed);
  // A single kilobyte per run would add up to ten megabytes.
  EXPECT_LT(ResidentBytes() - resident, int64_t{2} << 20);
  EXPECT_LT(AddressSpaceBytes() - address_space, int64_t{2} << 20);
}

TEST_F(ArenaTest, TheHeapDoesNotChangeARun) {
  std::set<uint64_t> hashes;
  {
    NetworkWorld warm_up;
    Exchange exchange(warm_up, {"payload", "tensor"});
    EXPECT_EQ(warm_up.Run(), Outcome::kFinished);
    hashes.insert(warm_up.world()->trace().hash());
  }
  for (uint64_t scatter = 0; scatter < 20; ++scatter) {
    uint64_t hash = 0;
    int64_t left = -1;
    {
      ArenaScope arena(scatter);
      {
        NetworkWorld world;
        Exchange exchange(world, {"payload", "tensor"});
        world.Run();
        hash = world.world()->trace().hash();
      }
      left = arena.live_allocations();
    }
    hashes.insert(hash);
    EXPECT_EQ(left, 0) << "a run that ended well leaks";
  }
  EXPECT_EQ(hashes.size(), 1u);
}

}  // namespace
}  // namespace reprise

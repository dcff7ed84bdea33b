#include "agent/runtime/memory_reserve.h"

#include <sys/resource.h>

#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "agent/runtime/runtime.h"
#include "gtest/gtest.h"

namespace reprise {
namespace {

// What the process has mapped, in bytes.
size_t AddressSpace() {
  std::ifstream statm("/proc/self/statm");
  size_t pages = 0;
  statm >> pages;
  return pages * 4096;
}

// Lets the process map `more` bytes and no more, while it lives.
class LittleMemory {
 public:
  explicit LittleMemory(size_t more) {
    getrlimit(RLIMIT_AS, &before_);
    rlimit limit = before_;
    limit.rlim_cur = AddressSpace() + more;
    setrlimit(RLIMIT_AS, &limit);
  }
  ~LittleMemory() { setrlimit(RLIMIT_AS, &before_); }

 private:
  rlimit before_ = {};
};

// Memory in small pieces, as code takes it that cannot do without.
class SmallPieces {
 public:
  static constexpr size_t kBytes = 1 << 10;

  SmallPieces() = default;
  SmallPieces(const SmallPieces&) = delete;
  SmallPieces& operator=(const SmallPieces&) = delete;
  ~SmallPieces() { Clear(); }

  // Throws what `operator new` throws.
  void Add() {
    auto* const piece = static_cast<Piece*>(::operator new(kBytes));
    piece->next = first_;
    first_ = piece;
  }
  void Clear() {
    while (first_ != nullptr) {
      Piece* const next = first_->next;
      ::operator delete(first_);
      first_ = next;
    }
  }

 private:
  struct Piece {
    Piece* next;
  };
  Piece* first_ = nullptr;
};

TEST(MemoryReserveTest, SmallAllocationsLiveOnIt) {
  KeepMemoryReserve();
  ASSERT_TRUE(IsMemoryReserveWhole());
  ASSERT_TRUE(RealRuntime().HasMemory());
  SmallPieces pieces;
  size_t from_reserve = 0;
  {
    const LittleMemory limit(size_t{4} << 20);
    while (IsMemoryReserveWhole()) pieces.Add();
    EXPECT_FALSE(RealRuntime().HasMemory());
    EXPECT_TRUE(absl::IsResourceExhausted(CheckMemory(RealRuntime())));
    // Most of the reserve is left, whatever malloc wastes at its edges.
    for (; from_reserve < kMemoryReserveBytes / 2;
         from_reserve += SmallPieces::kBytes) {
      ASSERT_NO_THROW(pieces.Add()) << "after " << from_reserve << " bytes";
    }
    EXPECT_FALSE(IsMemoryReserveWhole());
    // In the end there is none.
    EXPECT_THROW(
        {
          while (true) pieces.Add();
        },
        std::bad_alloc);
    EXPECT_FALSE(IsMemoryReserveWhole());
  }
  // With memory again, it is made whole by whoever asks.
  EXPECT_TRUE(IsMemoryReserveWhole());
  EXPECT_EQ(CheckMemory(RealRuntime()), absl::OkStatus());
}

TEST(MemoryReserveTest, AnAllocationThatIsTooLargeFailsAndLeavesItWhole) {
  KeepMemoryReserve();
  const LittleMemory limit(size_t{64} << 20);
  EXPECT_EQ(::operator new (size_t{1} << 30, std::nothrow), nullptr);
  EXPECT_TRUE(IsMemoryReserveWhole());
}

}  // namespace
}  // namespace reprise

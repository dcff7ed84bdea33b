#include "sim/world/arena.h"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "sim/random.h"

#if defined(__SANITIZE_ADDRESS__)
#define REPRISE_LSAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define REPRISE_LSAN 1
#endif
#endif

#ifdef REPRISE_LSAN
#include <sanitizer/lsan_interface.h>
#endif

namespace reprise {
namespace {

constexpr size_t kArenaBytes = size_t{16} << 30;  // address space only
constexpr int kMaxArenas = 64;
// Where they lie, unless something else does: far from where the system puts
// programs, libraries, stacks and heaps. At an address of its own in each
// process, a hash table of foreign code whose keys are pointers would have an
// order of its own in each process, too.
constexpr uintptr_t kRegion = uintptr_t{0x100000000000};
constexpr size_t kKeepBytes = size_t{64} << 20;  // kept touched between runs
constexpr size_t kHeader = 8;
constexpr int kLanes = 16;  // of scattered allocation

// A block of memory is a header and what the user gets, together a multiple of
// 16 bytes: 16 to 1,040 in steps of 16, then four steps for each power of two
// and the 16 bytes in addition. A size class stands for what the user gets.
constexpr int kSmallClasses = 65;
constexpr int kClasses = kSmallClasses + 4 * 30;

constexpr int ClassOf(size_t size) {
  if (size <= 1024 + kHeader) return static_cast<int>((size + 7) / 16);
  // 2^log < size <= 2^(log+1)
  const int log = static_cast<int>(std::bit_width(size - 1)) - 1;
  const size_t step = size_t{1} << (log - 2);
  const int quarter =
      static_cast<int>((size - (size_t{1} << log) + step - 1) / step) - 1;
  return kSmallClasses + (log - 10) * 4 + quarter;
}

constexpr size_t BlockOf(int size_class) {
  if (size_class < kSmallClasses) {
    return static_cast<size_t>(size_class + 1) * 16;
  }
  const int log = 10 + (size_class - kSmallClasses) / 4;
  const size_t step = size_t{1} << (log - 2);
  return (size_t{1} << log) +
         static_cast<size_t>((size_class - kSmallClasses) % 4 + 1) * step + 16;
}

constexpr bool IsWideEnough(size_t size) {
  return BlockOf(ClassOf(size)) >= size + kHeader;
}
static_assert(BlockOf(ClassOf(8)) == 16 && BlockOf(ClassOf(9)) == 32);
static_assert(BlockOf(ClassOf(24)) == 32 && BlockOf(ClassOf(4096)) == 4112);
static_assert(IsWideEnough(1) && IsWideEnough(1024) && IsWideEnough(1032) &&
              IsWideEnough(1033) && IsWideEnough(1280) && IsWideEnough(1281));

struct Header {
  uint32_t size_class;  // kFreed is added while it is free
  uint32_t offset;      // from the start of the block to the user's bytes
};
static_assert(sizeof(Header) == kHeader);
constexpr uint32_t kFreed = uint32_t{1} << 31;

[[noreturn]] void ReportBadFree(bool is_free) {
  static constexpr char kTwice[] = "reprise: memory is freed twice\n";
  static constexpr char kNever[] =
      "reprise: memory is freed that was never allocated, or something wrote "
      "below its begin\n";
  [[maybe_unused]] const ssize_t written =
      is_free ? write(STDERR_FILENO, kTwice, sizeof(kTwice) - 1)
              : write(STDERR_FILENO, kNever, sizeof(kNever) - 1);
  std::abort();
}

struct FreeBlock {
  uintptr_t next;  // a pointer, xor kPoison if freed memory is poisoned
};

// No address: whoever follows a pointer that it reads from freed memory dies.
constexpr unsigned char kPoisonByte = 0xd5;
constexpr uintptr_t kPoison = 0xd5d5d5d5d5d5d5d5;

class Arena {
 public:
  explicit Arena(char* base) : base_(base) {}

  void Begin(uint64_t scatter, bool poison) {
    scatter_ = scatter;
    poison_ = poison ? kPoison : 0;
    draws_ = 0;
    live_ = 0;
    const size_t lane_bytes = kArenaBytes / kLanes;
    for (int i = 0; i < kLanes; ++i) {
      lanes_[i] = base_ + static_cast<size_t>(i) * lane_bytes + 16 - kHeader;
      lane_ends_[i] = base_ + static_cast<size_t>(i + 1) * lane_bytes;
    }
    if (scatter_ == 0) lane_ends_[0] = base_ + kArenaBytes;
    std::memset(free_, 0, sizeof(free_));
  }

  void End() {
    const size_t lane_bytes = kArenaBytes / kLanes;
    for (int i = 0; i < kLanes; ++i) {
      char* const start = base_ + static_cast<size_t>(i) * lane_bytes;
      const size_t used = static_cast<size_t>(lanes_[i] - start);
      const size_t keep = i == 0 ? kKeepBytes : kKeepBytes / kLanes;
      if (used > keep) madvise(start + keep, used - keep, MADV_DONTNEED);
      if (scatter_ == 0) break;
    }
  }

  void* Allocate(size_t size, size_t alignment) {
    const size_t padding = alignment > 16 ? alignment : 0;
    if (size > kArenaBytes / kLanes / 2) return nullptr;
    const int size_class = ClassOf((size == 0 ? 1 : size) + padding);
    char* user = nullptr;
    if (free_[size_class] != nullptr && !Coin()) {
      user = reinterpret_cast<char*>(free_[size_class]);
      free_[size_class] = Next(*free_[size_class]);
    } else {
      const int lane = scatter_ == 0 ? 0 : static_cast<int>(Bits() % kLanes);
      const size_t bytes = BlockOf(size_class);
      if (static_cast<size_t>(lane_ends_[lane] - lanes_[lane]) < bytes) {
        return nullptr;
      }
      user = lanes_[lane] + kHeader;
      lanes_[lane] += bytes;
    }
    uint32_t offset = 0;
    if (padding != 0) {
      const auto address = reinterpret_cast<uintptr_t>(user);
      offset = static_cast<uint32_t>(
          ((address + alignment - 1) & ~(alignment - 1)) - address);
    }
    char* const result = user + offset;
    const Header header{static_cast<uint32_t>(size_class), offset};
    std::memcpy(result - kHeader, &header, kHeader);
    ++live_;
    return result;
  }

  void Free(void* pointer) {
    char* const result = static_cast<char*>(pointer);
    Header header;
    std::memcpy(&header, result - kHeader, kHeader);
    if (header.size_class >= kClasses) {
      ReportBadFree(header.size_class - kFreed < kClasses);
    }
    const Header freed{header.size_class + kFreed, header.offset};
    std::memcpy(result - kHeader, &freed, kHeader);
    auto* const block = reinterpret_cast<FreeBlock*>(result - header.offset);
    if (poison_ != 0) {
      std::memset(static_cast<void*>(block), kPoisonByte,
                  BlockOf(static_cast<int>(header.size_class)) - kHeader);
    }
    block->next =
        reinterpret_cast<uintptr_t>(free_[header.size_class]) ^ poison_;
    free_[header.size_class] = block;
    --live_;
  }

  int64_t live() const { return live_; }

 private:
  FreeBlock* Next(const FreeBlock& block) const {
    return reinterpret_cast<FreeBlock*>(block.next ^ poison_);
  }

  uint64_t Bits() { return Draw(scatter_, 0x5ca77e5, draws_++); }
  bool Coin() { return scatter_ != 0 && (Bits() & 1) != 0; }

  char* const base_;
  uint64_t scatter_ = 0;
  uintptr_t poison_ = 0;
  uint64_t draws_ = 0;
  int64_t live_ = 0;
  char* lanes_[kLanes] = {};
  char* lane_ends_[kLanes] = {};
  FreeBlock* free_[kClasses] = {};
};

// All arenas lie in one reservation, so the address of an allocation tells
// whether it comes from an arena.
char* g_region = nullptr;
Arena* g_arenas[kMaxArenas];  // made at first use, and kept
std::atomic<bool> g_taken[kMaxArenas];

thread_local constinit Arena* t_active = nullptr;  // what allocates now

char* Region() {
  static char* const region = [] {
    const auto map = [](void* address, int fixed) {
      return mmap(address, kArenaBytes * kMaxArenas, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed, -1, 0);
    };
    void* memory = map(reinterpret_cast<void*>(kRegion), MAP_FIXED_NOREPLACE);
    if (memory == MAP_FAILED) memory = map(nullptr, 0);
    g_region = memory == MAP_FAILED ? nullptr : static_cast<char*>(memory);
    return g_region;
  }();
  return region;
}

// An OS thread's claim on one of the arenas, given up when the thread ends.
class Claim {
 public:
  Claim() {
    if (Region() == nullptr) return;
    for (int i = 0; i < kMaxArenas; ++i) {
      if (g_taken[i].exchange(true)) continue;
      index_ = i;
      if (g_arenas[i] == nullptr) {
        void* memory = std::malloc(sizeof(Arena));
        if (memory == nullptr) return;
        g_arenas[i] =
            new (memory) Arena(Region() + static_cast<size_t>(i) * kArenaBytes);
      }
      return;
    }
  }
  ~Claim() {
    if (index_ >= 0) g_taken[index_] = false;
  }
  Arena* arena() const { return index_ < 0 ? nullptr : g_arenas[index_]; }

 private:
  int index_ = -1;
};

Arena* ArenaOfThisThread() {
  thread_local Claim claim;
  return claim.arena();
}

[[maybe_unused]] Arena* ArenaOf(void* pointer) {
  if (g_region == nullptr) return nullptr;
  const auto offset =
      static_cast<size_t>(static_cast<char*>(pointer) - g_region);
  if (offset >= kArenaBytes * kMaxArenas) return nullptr;
  return g_arenas[offset / kArenaBytes];
}

[[maybe_unused]] void* New(size_t size, size_t alignment) {
  if (t_active != nullptr) return t_active->Allocate(size, alignment);
  if (alignment > 16) {
    return std::aligned_alloc(alignment,
                              (size + alignment - 1) / alignment * alignment);
  }
  return std::malloc(size == 0 ? 1 : size);
}

[[maybe_unused]] void* NewOrThrow(size_t size, size_t alignment) {
  void* result = New(size, alignment);
  if (result == nullptr) throw std::bad_alloc();
  return result;
}

[[maybe_unused]] void Delete(void* pointer) {
  if (pointer == nullptr) return;
  if (Arena* arena = ArenaOf(pointer)) {
    arena->Free(pointer);
  } else {
    std::free(pointer);
  }
}

}  // namespace

ArenaScope::ArenaScope(uint64_t scatter, bool poison) {
  if (!kHasArena) return;
  Arena* arena = ArenaOfThisThread();
  if (arena == nullptr) return;
  arena->Begin(scatter, poison);
  t_active = arena;
}

ArenaScope::~ArenaScope() {
  if (t_active == nullptr) return;
  t_active->End();
  t_active = nullptr;
}

int64_t ArenaScope::live_allocations() const {
  return t_active == nullptr ? 0 : t_active->live();
}

void* ExchangeActiveArena(void* arena) {
  return std::exchange(t_active, static_cast<Arena*>(arena));
}

namespace {
std::atomic<bool> objects_are_lost = false;
}  // namespace

void ExpectLostObjects() { objects_are_lost = true; }

bool HasLostMemory() {
#ifdef REPRISE_LSAN
  return __lsan_do_recoverable_leak_check() != 0;
#else
  return false;
#endif
}

ArenaPause::ArenaPause() : paused_(t_active) { t_active = nullptr; }
ArenaPause::~ArenaPause() { t_active = static_cast<Arena*>(paused_); }

}  // namespace reprise

// LeakSanitizer calls this at the end of the process. In other builds it is not
// called.
// NOLINTNEXTLINE(bugprone-reserved-identifier): its name for the question
extern "C" int __lsan_is_turned_off();
extern "C" int __lsan_is_turned_off() {
  return reprise::objects_are_lost ? 1 : 0;
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define REPRISE_NO_ARENA 1
#endif
#endif
#ifndef REPRISE_NO_ARENA

using reprise::Delete;
using reprise::New;
using reprise::NewOrThrow;

void* operator new(size_t size) { return NewOrThrow(size, 16); }
void* operator new[](size_t size) { return NewOrThrow(size, 16); }
void* operator new(size_t size, const std::nothrow_t&) noexcept {
  return New(size, 16);
}
void* operator new[](size_t size, const std::nothrow_t&) noexcept {
  return New(size, 16);
}
void* operator new(size_t size, std::align_val_t alignment) {
  return NewOrThrow(size, static_cast<size_t>(alignment));
}
void* operator new[](size_t size, std::align_val_t alignment) {
  return NewOrThrow(size, static_cast<size_t>(alignment));
}
void operator delete(void* pointer) noexcept { Delete(pointer); }
void operator delete[](void* pointer) noexcept { Delete(pointer); }
void operator delete(void* pointer, size_t) noexcept { Delete(pointer); }
void operator delete[](void* pointer, size_t) noexcept { Delete(pointer); }
void operator delete(void* pointer, const std::nothrow_t&) noexcept {
  Delete(pointer);
}
void operator delete[](void* pointer, const std::nothrow_t&) noexcept {
  Delete(pointer);
}
void operator delete(void* pointer, std::align_val_t) noexcept {
  Delete(pointer);
}
void operator delete[](void* pointer, std::align_val_t) noexcept {
  Delete(pointer);
}
void operator delete(void* pointer, size_t, std::align_val_t) noexcept {
  Delete(pointer);
}
void operator delete[](void* pointer, size_t, std::align_val_t) noexcept {
  Delete(pointer);
}

#endif
#endif

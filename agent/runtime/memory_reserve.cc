#include "agent/runtime/memory_reserve.h"

#include <sys/mman.h>

#include <array>
#include <atomic>
#include <mutex>
#include <new>

#include "glog/logging.h"

namespace reprise {
namespace {

constexpr size_t kNumPieces = 8;
constexpr size_t kPieceBytes = kMemoryReserveBytes / kNumPieces;

// No destructor runs: the handler may be called until the process ends.
std::array<std::atomic<void*>, kNumPieces> pieces;
std::atomic<bool> is_kept = false;
std::atomic<bool> is_whole = true;

void* MapPiece() {
  void* const piece = mmap(nullptr, kPieceBytes, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, /*fd=*/-1, 0);
  return piece == MAP_FAILED ? nullptr : piece;
}

// Gives one piece back, after which `operator new` tries again. May run on any
// thread with any lock held, so it neither locks nor allocates.
void GiveBackPiece() {
  for (std::atomic<void*>& slot : pieces) {
    void* const piece = slot.exchange(nullptr);
    if (piece == nullptr) continue;
    is_whole = false;
    munmap(piece, kPieceBytes);
    return;
  }
  throw std::bad_alloc();
}

// Returns whether all pieces are there now.
bool TakeBackPieces() {
  for (std::atomic<void*>& slot : pieces) {
    if (slot.load() != nullptr) continue;
    void* const piece = MapPiece();
    if (piece == nullptr) return false;
    void* expected = nullptr;
    if (!slot.compare_exchange_strong(expected, piece)) {
      munmap(piece, kPieceBytes);
    }
  }
  return true;
}

}  // namespace

void KeepMemoryReserve() {
  static std::once_flag once;
  std::call_once(once, [] {
    if (std::get_new_handler() != nullptr) return;
    is_whole = TakeBackPieces();
    is_kept = true;
    std::set_new_handler(GiveBackPiece);
  });
}

bool IsMemoryReserveWhole() {
  if (is_whole.load(std::memory_order_relaxed) || !is_kept) return true;
  // It is said to be whole before it is looked at, so that a piece that goes
  // meanwhile is not overlooked.
  is_whole = true;
  if (!TakeBackPieces()) {
    is_whole = false;
    return false;
  }
  LOG(WARNING) << "this process was short of memory for a while";
  return true;
}

absl::Status CheckMemory(Runtime& runtime) {
  if (runtime.HasMemory()) return absl::OkStatus();
  return absl::ResourceExhaustedError("this process is short of memory");
}

}  // namespace reprise

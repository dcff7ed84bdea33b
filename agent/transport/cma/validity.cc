#include "agent/transport/cma/validity.h"

#include <sys/mman.h>

#include <cstddef>
#include <new>

#include "absl/base/thread_annotations.h"
#include "agent/runtime/native_mutex.h"

namespace reprise {
namespace {

static_assert(std::atomic<uint64_t>::is_always_lock_free);

using Word = std::atomic<uint64_t>;

constexpr size_t kPageBytes = 4096;

// Words, and which of them are free. Never unmapped, and not from the heap: a
// late reader must find words there.
struct Page {
  static constexpr size_t kWords =
      (kPageBytes - 16) / (sizeof(Word) + sizeof(uint16_t));

  Page* next = nullptr;  // of those with free words
  size_t num_free = kWords;
  uint16_t free[kWords];
  Word words[kWords];
};

static_assert(sizeof(Page) <= kPageBytes);

// The words of the process. Memory that was once a word stays a word, so that a
// late reader never finds other data there.
class Words {
 public:
  Word* Take() {
    const NativeMutexLock lock(mutex_);
    if (first_ == nullptr && !AddPage()) return nullptr;
    Page* const page = first_;
    Word* const word = &page->words[page->free[--page->num_free]];
    if (page->num_free == 0) first_ = page->next;
    return word;
  }
  void GiveBack(Word* word) {
    auto* const page = reinterpret_cast<Page*>(
        reinterpret_cast<uintptr_t>(word) / kPageBytes * kPageBytes);
    const NativeMutexLock lock(mutex_);
    if (page->num_free == 0) {
      page->next = first_;
      first_ = page;
    }
    page->free[page->num_free++] = static_cast<uint16_t>(word - page->words);
  }

 private:
  bool AddPage() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    void* const memory = mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return false;
    first_ = new (memory) Page();
    for (size_t i = 0; i < Page::kWords; ++i) {
      first_->free[i] = static_cast<uint16_t>(Page::kWords - 1 - i);
    }
    return true;
  }

  NativeMutex mutex_;
  Page* first_ ABSL_GUARDED_BY(mutex_) = nullptr;  // of those with free words
};

constinit Words all_words;

}  // namespace

ValidityWord ValidityWord::Make(uint64_t value) {
  Word* const word = all_words.Take();
  if (word != nullptr) word->store(value, std::memory_order_release);
  return ValidityWord(word);
}

void ValidityWord::Revoke() {
  if (word_ == nullptr) return;
  word_->store(0, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  all_words.GiveBack(std::exchange(word_, nullptr));
}

}  // namespace reprise

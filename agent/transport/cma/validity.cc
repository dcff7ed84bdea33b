#include "agent/transport/cma/validity.h"

#include <sys/mman.h>

#include <cstddef>
#include <mutex>
#include <new>
#include <vector>

namespace reprise {
namespace {

static_assert(std::atomic<uint64_t>::is_always_lock_free);

using Word = std::atomic<uint64_t>;

constexpr size_t kPageBytes = 4096;

// The words of the process. Memory that was once a word stays a word, so that a
// late reader never finds other data there.
class Words {
 public:
  Word* Take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty() && !AddPage()) return nullptr;
    Word* const word = free_.back();
    free_.pop_back();
    return word;
  }
  void GiveBack(Word* word) {
    const std::lock_guard lock(mutex_);
    free_.push_back(word);  // has room: see `AddPage`
  }

 private:
  bool AddPage() {
    constexpr size_t kWords = kPageBytes / sizeof(Word);
    try {
      free_.reserve(num_words_ + kWords);
    } catch (const std::bad_alloc&) {
      return false;
    }
    void* const page = mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return false;
    num_words_ += kWords;
    for (size_t i = 0; i < kWords; ++i) {
      free_.push_back(new (static_cast<char*>(page) + i * sizeof(Word)) Word());
    }
    return true;
  }

  std::mutex mutex_;
  std::vector<Word*> free_;
  size_t num_words_ = 0;
};

Words& AllWords() {
  static auto* const words = new Words();
  return *words;
}

}  // namespace

ValidityWord ValidityWord::Make(uint64_t value) {
  Word* const word = AllWords().Take();
  if (word != nullptr) word->store(value, std::memory_order_release);
  return ValidityWord(word);
}

void ValidityWord::Revoke() {
  if (word_ == nullptr) return;
  word_->store(0, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  AllWords().GiveBack(std::exchange(word_, nullptr));
}

}  // namespace reprise

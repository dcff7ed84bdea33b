// Says whether memory still holds what was offered in it, to processes that
// read both.
//
// A word lies in memory that is never unmapped, and holds a value that was
// never used before, for as long as the offer stands. A reader copies the data
// first and then the word: if the word still has its value, nothing had been
// changed before the data was copied. This is a seqlock across processes.

#ifndef REPRISE_AGENT_TRANSPORT_CMA_VALIDITY_H_
#define REPRISE_AGENT_TRANSPORT_CMA_VALIDITY_H_

#include <atomic>
#include <cstdint>
#include <utility>

namespace reprise {

// Holds one word, or none. Not thread-safe; another one may be used on another
// thread.
class ValidityWord {
 public:
  ValidityWord() = default;
  ValidityWord(ValidityWord&& other) noexcept
      : word_(std::exchange(other.word_, nullptr)) {}
  ValidityWord& operator=(ValidityWord&& other) noexcept {
    if (this != &other) {
      Revoke();
      word_ = std::exchange(other.word_, nullptr);
    }
    return *this;
  }
  ~ValidityWord() { Revoke(); }

  // Holds a word with that value, which is not 0. Returns one that holds none
  // when there is no memory.
  static ValidityWord Make(uint64_t value);

  // 0 when it holds none.
  uint64_t address() const { return reinterpret_cast<uint64_t>(word_); }

  // Ends the offer. Whatever this thread writes afterwards, and whoever learns
  // of it from this thread, no reader can take for what was offered.
  void Revoke();

 private:
  explicit ValidityWord(std::atomic<uint64_t>* word) : word_(word) {}

  std::atomic<uint64_t>* word_ = nullptr;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CMA_VALIDITY_H_

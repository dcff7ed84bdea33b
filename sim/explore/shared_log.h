// A log in memory that a process shares with its children: what a child wrote
// is there for the parent even if the child died in the middle of a run.
//
// One process appends entries, one at a time, and the other reads them. An
// entry is a type and fields, which are read in the order in which they were
// written. An entry becomes visible as a whole. Neither side takes a lock, and
// writing allocates nothing, so a signal handler may write.

#ifndef REPRISE_SIM_EXPLORE_SHARED_LOG_H_
#define REPRISE_SIM_EXPLORE_SHARED_LOG_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace reprise {

class SharedLog {
 public:
  // At most `max_bytes`; only what is written costs memory. UNAVAILABLE if the
  // system gives no memory.
  static absl::StatusOr<std::unique_ptr<SharedLog>> Make(size_t max_bytes);
  SharedLog(const SharedLog&) = delete;
  SharedLog& operator=(const SharedLog&) = delete;
  ~SharedLog();

  // The writer's side. After `Begin` come the fields, and `Commit`, which
  // returns false if there was no room for the entry; it is not visible then.
  void Begin(char type);
  void Put(uint64_t number);
  void Put(std::string_view text);
  bool Commit();

  // What is visible. It grows as long as the writer writes.
  uint64_t num_bytes() const { return mapping_->size.load(); }

  // The reader's side. `Next` goes to the next entry that is visible, and
  // returns its type, or 0 if there is none yet. Fields that the entry does not
  // have are 0 and empty.
  char Next();
  uint64_t TakeNumber();
  std::string TakeText();

 private:
  struct Mapping {
    std::atomic<uint64_t> size;  // of the entries that are visible
    char bytes[1];
  };

  SharedLog(Mapping* mapping, size_t max_bytes)
      : mapping_(mapping), max_bytes_(max_bytes) {}
  void PutBytes(const void* bytes, size_t size);

  Mapping* const mapping_;
  const size_t max_bytes_;
  // The writer's.
  uint64_t begin_ = 0;  // of the entry
  uint64_t end_ = 0;
  bool fits_ = true;
  // The reader's.
  uint64_t read_ = 0;       // the next field
  uint64_t entry_end_ = 0;  // of the entry
};

}  // namespace reprise

#endif  // REPRISE_SIM_EXPLORE_SHARED_LOG_H_

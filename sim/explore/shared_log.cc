#include "sim/explore/shared_log.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace reprise {

absl::StatusOr<std::unique_ptr<SharedLog>> SharedLog::Make(size_t max_bytes) {
  void* const memory = mmap(nullptr, max_bytes, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    return absl::UnavailableError(absl::StrCat(
        "no memory to share with a child process: ", std::strerror(errno)));
  }
  return std::unique_ptr<SharedLog>(
      new SharedLog(static_cast<Mapping*>(memory), max_bytes));
}

SharedLog::~SharedLog() { munmap(mapping_, max_bytes_); }

void SharedLog::Begin(char type) {
  begin_ = mapping_->size.load(std::memory_order_relaxed);
  end_ = begin_ + sizeof(uint64_t);  // the entry's end comes first
  fits_ = true;
  PutBytes(&type, sizeof(type));
}

void SharedLog::Put(uint64_t number) { PutBytes(&number, sizeof(number)); }

void SharedLog::Put(std::string_view text) {
  Put(uint64_t{text.size()});
  PutBytes(text.data(), text.size());
}

void SharedLog::PutBytes(const void* bytes, size_t size) {
  if (!fits_ || max_bytes_ - offsetof(Mapping, bytes) - end_ < size) {
    fits_ = false;
    return;
  }
  std::memcpy(mapping_->bytes + end_, bytes, size);
  end_ += size;
}

bool SharedLog::Commit() {
  if (!fits_) return false;
  std::memcpy(mapping_->bytes + begin_, &end_, sizeof(end_));
  mapping_->size.store(end_, std::memory_order_release);
  return true;
}

char SharedLog::Next() {
  const uint64_t size = mapping_->size.load(std::memory_order_acquire);
  if (size <= entry_end_) return 0;
  read_ = entry_end_ + sizeof(uint64_t);
  std::memcpy(&entry_end_, mapping_->bytes + entry_end_, sizeof(entry_end_));
  return mapping_->bytes[read_++];
}

uint64_t SharedLog::TakeNumber() {
  uint64_t number = 0;
  if (entry_end_ - read_ < sizeof(number)) return 0;
  std::memcpy(&number, mapping_->bytes + read_, sizeof(number));
  read_ += sizeof(number);
  return number;
}

std::string SharedLog::TakeText() {
  const uint64_t size = TakeNumber();
  if (entry_end_ - read_ < size) return "";
  std::string text(mapping_->bytes + read_, size);
  read_ += size;
  return text;
}

}  // namespace reprise

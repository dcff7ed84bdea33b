#include "agent/wire/discard_memory.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

constexpr size_t kMinChunk = size_t{1} << 20;
constexpr size_t kMaxChunks = 4096;

absl::Status SystemError(const char* call) {
  return absl::ResourceExhaustedError(absl::StrCat(
      "no memory to skip a message: ", call, ": ", strerror(errno)));
}

}  // namespace

DiscardMemory::~DiscardMemory() {
  if (data_ != nullptr) munmap(data_, mapped_bytes_);
}

absl::StatusOr<DiscardMemory> DiscardMemory::Make(size_t num_bytes) {
  if (num_bytes > kMaxBytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        num_bytes, " bytes are too many to be skipped, limit ", kMaxBytes));
  }
  size_t chunk = kMinChunk;
  while (chunk * kMaxChunks < num_bytes) chunk *= 2;
  const size_t num_chunks =
      std::max<size_t>(1, (num_bytes + chunk - 1) / chunk);
  DiscardMemory memory;
  void* const range =
      mmap(nullptr, num_chunks * chunk, PROT_NONE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, /*fd=*/-1, 0);
  if (range == MAP_FAILED) return SystemError("mmap");
  memory.data_ = static_cast<char*>(range);
  memory.mapped_bytes_ = num_chunks * chunk;
  const int fd = memfd_create("reprise_discard", MFD_CLOEXEC);
  if (fd < 0) return SystemError("memfd_create");
  absl::Status status;
  if (ftruncate(fd, static_cast<off_t>(chunk)) != 0) {
    status = SystemError("ftruncate");
  }
  for (size_t i = 0; i < num_chunks && status.ok(); ++i) {
    if (mmap(memory.data_ + i * chunk, chunk, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
      status = SystemError("mmap");
    }
  }
  close(fd);
  if (!status.ok()) return status;
  return memory;
}

}  // namespace reprise

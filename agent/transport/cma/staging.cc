#include "agent/transport/cma/staging.h"

#include <sys/mman.h>

#include <atomic>

#include "glog/logging.h"

namespace reprise {
namespace {

std::atomic<int> num_retired = 0;

}  // namespace

Staging Staging::Make(size_t length) {
  if (num_retired >= kMaxRetired) {
    LOG_EVERY_N(WARNING, 100)
        << "channel cma: TensorPipe's own peers closed while they might read "
        << kMaxRetired << " tensors; no more are sent to such peers";
    return {};
  }
  void* const address = mmap(nullptr, length, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) return {};
  return {static_cast<char*>(address), length};
}

void Staging::Release() {
  if (address_ == nullptr) return;
  munmap(std::exchange(address_, nullptr), length_);
}

void Staging::Retire() {
  if (address_ == nullptr) return;
  ++num_retired;
  // If the kernel has no room for the change, the pages stay as they are.
  PLOG_IF(WARNING, mmap(address_, length_, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
                        -1, 0) == MAP_FAILED)
      << "channel cma: cannot give back " << length_ << " bytes";
  address_ = nullptr;
}

}  // namespace reprise

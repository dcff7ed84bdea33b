#include "agent/transport/shm/file_descriptor.h"

#include <fcntl.h>
#include <sys/eventfd.h>

#include <vector>

namespace reprise::shm {

bool HasFreeDescriptors(int count) {
  std::vector<FileDescriptor> taken;
  taken.emplace_back(eventfd(0, EFD_CLOEXEC));
  while (taken.back().is_open()) {
    if (static_cast<int>(taken.size()) == count) return true;
    taken.emplace_back(fcntl(taken.front().get(), F_DUPFD_CLOEXEC, 0));
  }
  return false;
}

}  // namespace reprise::shm

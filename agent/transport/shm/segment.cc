#include "agent/transport/shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "uv.h"

namespace reprise::shm {
namespace {

int LastError() { return uv_translate_sys_error(errno); }

}  // namespace

Mapping::~Mapping() {
  if (data_ != nullptr) munmap(data_, size_);
}

int Mapping::Map(int fd, size_t size) {
  void* const data =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) return LastError();
  *this = Mapping();
  data_ = static_cast<char*>(data);
  size_ = size;
  return 0;
}

int MakeSegment(size_t size, Segment& segment) {
  segment.file = FileDescriptor(
      memfd_create("reprise_shm", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  const int fd = segment.file.get();
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(size)) != 0 ||
      fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return LastError();
  }
  return segment.memory.Map(fd, size);
}

int MapPeerSegment(int fd, const SizeLimits& limits, bool may_be_unsealed,
                   Mapping& memory) {
  // Only memory files have seals. Files of huge pages are refused too, because
  // there may be no page left when one is touched.
  const int seals = fcntl(fd, F_GET_SEALS);
  struct statfs file_system;
  struct stat status;
  if (seals < 0 || fstatfs(fd, &file_system) != 0 ||
      file_system.f_type != TMPFS_MAGIC || fstat(fd, &status) != 0 ||
      !S_ISREG(status.st_mode)) {
    return UV_EPROTO;
  }
  const auto size = static_cast<size_t>(status.st_size);
  if (size < limits.min || size > limits.max) return UV_EPROTO;
  if ((seals & F_SEAL_SHRINK) == 0 && !may_be_unsealed) return UV_EPERM;
  return memory.Map(fd, size);
}

}  // namespace reprise::shm

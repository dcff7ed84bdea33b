#include "agent/transport/cuda/shared_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "agent/transport/shm/file_descriptor.h"
#include "agent/transport/shm/segment.h"

namespace reprise {
namespace {

// The last page of each file holds random bytes that its name tells too. So a
// name never leads to another file than the one that it was made for, though
// the number of a process or of a descriptor is used again.
constexpr size_t kPageBytes = 4096;
constexpr size_t kCookieBytes = 16;

class RealSegment final : public SharedSegment {
 public:
  RealSegment(shm::FileDescriptor file, shm::Mapping memory, std::string name)
      : file_(std::move(file)),
        memory_(std::move(memory)),
        name_(std::move(name)) {}
  char* data() override { return memory_.data(); }
  size_t num_bytes() const override { return memory_.size() - kPageBytes; }
  const std::string& name() const override { return name_; }

 private:
  const shm::FileDescriptor file_;  // none where it was opened
  const shm::Mapping memory_;
  const std::string name_;
};

// When the process began, in ticks since the host did; "" when there is none.
std::string StartOf(int64_t pid) {
  const shm::FileDescriptor file(
      open(absl::StrCat("/proc/", pid, "/stat").c_str(), O_RDONLY | O_CLOEXEC));
  char text[1024];
  const ssize_t size =
      file.is_open() ? read(file.get(), text, sizeof(text)) : 0;
  if (size <= 0) return "";
  // The second field is a name in brackets, which may hold anything.
  const std::string line(text, static_cast<size_t>(size));
  const size_t end_of_name = line.rfind(')');
  if (end_of_name == line.npos) return "";
  const std::vector<std::string> fields =
      absl::StrSplit(line.substr(end_of_name + 1), ' ', absl::SkipEmpty());
  constexpr size_t kState = 0;
  constexpr size_t kStartTime = 19;
  if (fields.size() <= kStartTime || fields[kState] == "Z" ||
      fields[kState] == "X") {
    return "";
  }
  return fields[kStartTime];
}

class RealMemory final : public SharedMemory {
 public:
  absl::StatusOr<std::unique_ptr<SharedSegment>> Create(
      size_t num_bytes) override {
    shm::Segment segment;
    std::string cookie(kCookieBytes, '\0');
    if (getrandom(cookie.data(), cookie.size(), 0) !=
            static_cast<ssize_t>(cookie.size()) ||
        shm::MakeSegment(num_bytes + kPageBytes, segment) != 0) {
      return absl::ResourceExhaustedError(
          absl::StrCat("cannot make ", num_bytes,
                       " bytes of shared memory: ", strerror(errno)));
    }
    std::memcpy(segment.memory.data() + num_bytes, cookie.data(),
                cookie.size());
    std::string name = absl::StrCat(getpid(), "/", segment.file.get(), "/",
                                    absl::BytesToHexString(cookie));
    return std::make_unique<RealSegment>(
        std::move(segment.file), std::move(segment.memory), std::move(name));
  }

  absl::StatusOr<std::unique_ptr<SharedSegment>> Open(
      const std::string& name, size_t num_bytes) override {
    const std::vector<std::string> parts = absl::StrSplit(name, '/');
    uint32_t pid = 0;
    uint32_t fd = 0;
    if (parts.size() != 3 || !absl::SimpleAtoi(parts[0], &pid) ||
        !absl::SimpleAtoi(parts[1], &fd) ||
        parts[2].size() != 2 * kCookieBytes) {
      return absl::InvalidArgumentError("that is no name of shared memory");
    }
    // A descriptor of another kind, a pipe say, must not hold up the opening.
    const shm::FileDescriptor file(
        open(absl::StrCat("/proc/", pid, "/fd/", fd).c_str(),
             O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (!file.is_open()) {
      return absl::NotFoundError(absl::StrCat(
          "cannot open the peer's shared memory: ", strerror(errno)));
    }
    shm::Mapping memory;
    const size_t size = num_bytes + kPageBytes;
    if (shm::MapPeerSegment(file.get(), {size, size},
                            /*may_be_unsealed=*/false, memory) != 0) {
      return absl::InvalidArgumentError(
          "the peer's shared memory is not sealed, or not of the right size");
    }
    const std::string cookie(memory.data() + num_bytes, kCookieBytes);
    if (absl::BytesToHexString(cookie) != parts[2]) {
      return absl::NotFoundError("the peer's shared memory is gone");
    }
    return std::make_unique<RealSegment>(shm::FileDescriptor(),
                                         std::move(memory), "");
  }

  std::string ProcessName() override {
    return absl::StrCat(getpid(), "/", StartOf(getpid()));
  }
  bool IsAlive(const std::string& process_name) override {
    const std::vector<std::string> parts = absl::StrSplit(process_name, '/');
    int64_t pid = 0;
    return parts.size() == 2 && !parts[1].empty() &&
           absl::SimpleAtoi(parts[0], &pid) && StartOf(pid) == parts[1];
  }
};

}  // namespace

SharedMemory& RealSharedMemory() {
  static auto* const memory = new RealMemory();
  return *memory;
}

}  // namespace reprise

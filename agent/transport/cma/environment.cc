#include "agent/transport/cma/environment.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "agent/transport/cma/domain.h"

namespace reprise {
namespace {

using tensorpipe::Error;

class KernelProcessMemory final : public ProcessMemory {
 public:
  pid_t OwnPid() override { return getpid(); }

  Error Read(pid_t pid, uint64_t from, void* into, size_t size) override {
    iovec local = {into, size};
    iovec remote = {reinterpret_cast<void*>(from), size};
    const ssize_t count = process_vm_readv(pid, &local, 1, &remote, 1, 0);
    if (count < 0) {
      return {
          std::make_shared<tensorpipe::SystemError>("process_vm_readv", errno),
          __FILE__, __LINE__};
    }
    if (static_cast<size_t>(count) != size) {
      return {std::make_shared<tensorpipe::ShortReadError>(
                  static_cast<ssize_t>(size), count),
              __FILE__, __LINE__};
    }
    return Error::kSuccess;
  }
};

}  // namespace

CmaEnvironment RealCmaEnvironment() {
  static auto* const memory = new KernelProcessMemory();
  absl::StatusOr<std::string> domain = CmaDomain();
  if (absl::Status allowed = AllowCmaPeers(); domain.ok() && !allowed.ok()) {
    domain = std::move(allowed);
  }
  return {&RealRuntime(), memory, std::move(domain)};
}

}  // namespace reprise

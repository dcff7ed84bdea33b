#include "agent/transport/viability.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <string>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "tensorpipe/common/error.h"
#include "tensorpipe/common/ibv.h"
#include "tensorpipe/common/ibv_lib.h"
#include "tensorpipe/common/system.h"

namespace reprise {
namespace {

using tensorpipe::LinuxNamespace;
using tensorpipe::YamaPtraceScope;

bool HasNamespace(LinuxNamespace ns) {
  return tensorpipe::getLinuxNamespaceId(ns).has_value();
}

// The kernel allows it on oneself: only a filter of system calls can forbid it.
int ReadOwnMemoryErrno() {
  char from = 1;
  char to = 0;
  iovec local = {&to, 1};
  iovec remote = {&from, 1};
  return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1 ? 0 : errno;
}

}  // namespace

std::string WhyIbvIsNotViable() {
  auto [error, library] = tensorpipe::IbvLib::create();
  if (error) return absl::StrCat("cannot load libibverbs: ", error.what());
  const auto [list_error, devices] = tensorpipe::IbvDeviceList::create(library);
  if (list_error) {
    return absl::StrCat("the kernel lists no InfiniBand devices: ",
                        list_error.what());
  }
  return "no InfiniBand device";
}

std::string WhyCmaIsNotViable() {
  if (!HasNamespace(LinuxNamespace::kPid) ||
      !HasNamespace(LinuxNamespace::kUser)) {
    return "cannot read /proc/self/ns/pid and /proc/self/ns/user";
  }
  uid_t uids[3];
  gid_t gids[3];
  if (getresuid(&uids[0], &uids[1], &uids[2]) != 0 ||
      getresgid(&gids[0], &gids[1], &gids[2]) != 0) {
    return "cannot read the user and group ids";
  }
  if (uids[0] != uids[1] || uids[0] != uids[2] || gids[0] != gids[1] ||
      gids[0] != gids[2]) {
    return "real, effective and saved user or group ids differ";
  }
  if (prctl(PR_GET_DUMPABLE) != 1) {
    return "this process is not dumpable (PR_SET_DUMPABLE)";
  }
  const auto scope = tensorpipe::getYamaPtraceScope();
  if (scope.has_value() &&
      (scope.value() == YamaPtraceScope::kAdminOnlyAttach ||
       scope.value() == YamaPtraceScope::kNoAttach)) {
    return absl::StrCat("/proc/sys/kernel/yama/ptrace_scope is ",
                        static_cast<int>(scope.value()),
                        ", and reading another process's memory needs 0 or 1");
  }
  if (const int error = ReadOwnMemoryErrno(); error != 0) {
    return absl::StrCat("process_vm_readv is blocked, by a seccomp filter?: ",
                        strerror(error));
  }
  return "TensorPipe says no and does not say why";
}

}  // namespace reprise

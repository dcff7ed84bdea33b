#include "agent/transport/cma/domain.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <exception>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tensorpipe/common/system.h"

namespace reprise {
namespace {

using tensorpipe::LinuxNamespace;
using tensorpipe::YamaPtraceScope;

absl::Status Unavailable(const std::string& why) {
  return absl::UnavailableError(why);
}

// The kernel lets a process read its own memory, unless a filter of system
// calls forbids it.
absl::Status TryOwnMemory() {
  char from = 1;
  char to = 0;
  iovec local = {&to, 1};
  iovec remote = {&from, 1};
  if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1) {
    return absl::OkStatus();
  }
  return Unavailable(absl::StrCat(
      "process_vm_readv is blocked, by a seccomp filter?: ", strerror(errno)));
}

// "<uid>_<gid>".
absl::StatusOr<std::string> OwnIds() {
  uid_t uids[3];
  gid_t gids[3];
  if (getresuid(&uids[0], &uids[1], &uids[2]) != 0 ||
      getresgid(&gids[0], &gids[1], &gids[2]) != 0) {
    return Unavailable("cannot read the user and group ids");
  }
  if (uids[0] != uids[1] || uids[0] != uids[2] || gids[0] != gids[1] ||
      gids[0] != gids[2]) {
    return Unavailable("real, effective and saved user or group ids differ");
  }
  return absl::StrCat(uids[0], "_", gids[0]);
}

// The security modules that the kernel consults, as far as it says.
struct SecurityModules {
  bool capability = true;
  bool yama = true;
};

SecurityModules FindSecurityModules() {
  const auto names = tensorpipe::getLinuxSecurityModules();
  // If the list cannot be read, TensorPipe assumes these two.
  if (!names.has_value()) return {};
  const auto has = [&](const char* name) {
    return std::find(names->begin(), names->end(), name) != names->end();
  };
  return {has("capability"), has("yama")};
}

absl::Status CheckYama() {
  const auto scope = tensorpipe::getYamaPtraceScope();
  if (!scope.has_value() ||
      *scope == YamaPtraceScope::kClassicPtracePermissions ||
      *scope == YamaPtraceScope::kRestrictedPtrace) {
    return absl::OkStatus();
  }
  return Unavailable(absl::StrCat(
      "/proc/sys/kernel/yama/ptrace_scope is ", static_cast<int>(*scope),
      ", and reading another process's memory needs 0 or 1"));
}

absl::StatusOr<std::string> Domain() {
  const auto boot = tensorpipe::getBootID();
  if (!boot.has_value()) {
    return Unavailable("cannot read /proc/sys/kernel/random/boot_id");
  }
  const auto pids = tensorpipe::getLinuxNamespaceId(LinuxNamespace::kPid);
  const auto users = tensorpipe::getLinuxNamespaceId(LinuxNamespace::kUser);
  if (!pids.has_value() || !users.has_value()) {
    return Unavailable("cannot read /proc/self/ns/pid and /proc/self/ns/user");
  }
  absl::StatusOr<std::string> ids = OwnIds();
  if (!ids.ok()) return ids.status();
  if (prctl(PR_GET_DUMPABLE) != 1) {
    return Unavailable("this process is not dumpable (PR_SET_DUMPABLE)");
  }
  std::string domain = absl::StrCat("cma:", *boot, "_", *pids, "_", *users, "_",
                                    *std::move(ids));
  const SecurityModules modules = FindSecurityModules();
  if (modules.capability) {
    const auto capabilities = tensorpipe::getPermittedCapabilitiesID();
    if (!capabilities.has_value()) {
      return Unavailable("cannot read the permitted capabilities");
    }
    absl::StrAppend(&domain, "_", *capabilities);
  }
  if (modules.yama) {
    if (absl::Status status = CheckYama(); !status.ok()) return status;
  }
  if (absl::Status status = TryOwnMemory(); !status.ok()) return status;
  return domain;
}

}  // namespace

absl::StatusOr<std::string> CmaDomain() {
  try {
    return Domain();
  } catch (const std::exception& error) {  // of TensorPipe's functions
    return Unavailable(absl::StrCat(
        "cannot find out whether processes may read each other's memory: ",
        error.what()));
  }
}

absl::Status AllowCmaPeers() {
  try {
    if (!FindSecurityModules().yama) return absl::OkStatus();
    const auto scope = tensorpipe::getYamaPtraceScope();
    if (scope.has_value() && *scope == YamaPtraceScope::kRestrictedPtrace &&
        prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0) != 0) {
      return Unavailable(
          absl::StrCat("prctl(PR_SET_PTRACER) failed: ", strerror(errno)));
    }
    return absl::OkStatus();
  } catch (const std::exception& error) {
    return Unavailable(error.what());
  }
}

}  // namespace reprise

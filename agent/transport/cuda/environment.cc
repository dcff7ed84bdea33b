#include "agent/transport/cuda/environment.h"

#include <unistd.h>

#include <exception>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tensorpipe/common/system.h"

namespace reprise {

absl::StatusOr<ProcessIdentity> ThisProcess() {
  try {
    const auto boot = tensorpipe::getBootID();
    const auto pids =
        tensorpipe::getLinuxNamespaceId(tensorpipe::LinuxNamespace::kPid);
    const auto ipc =
        tensorpipe::getLinuxNamespaceId(tensorpipe::LinuxNamespace::kIpc);
    if (!boot.has_value() || !pids.has_value() || !ipc.has_value()) {
      return absl::UnavailableError(
          "cannot read /proc/sys/kernel/random/boot_id, /proc/self/ns/pid and "
          "/proc/self/ns/ipc");
    }
    return ProcessIdentity{*boot, *pids, *ipc, getpid()};
  } catch (const std::exception& error) {  // of TensorPipe's functions
    return absl::UnavailableError(
        absl::StrCat("cannot find out which process this is: ", error.what()));
  }
}

}  // namespace reprise

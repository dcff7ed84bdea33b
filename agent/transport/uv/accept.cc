#include "agent/transport/uv/accept.h"

#include <errno.h>
#include <sys/socket.h>

#include "glog/logging.h"
#include "uv.h"

namespace reprise {

int AcceptWaiting(int listener, const std::function<bool(int fd)>& admit) {
  constexpr int kMost = 128;
  for (int i = 0; i < kMost; ++i) {
    const int fd =
        accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      if (!admit(fd)) return 0;
      continue;
    }
    if (errno == EAGAIN) return 0;
    if (errno == EINTR || errno == ECONNABORTED) continue;
    const int error = uv_translate_sys_error(errno);
    if (IsLackOfResources(error)) {
      PLOG_EVERY_N(WARNING, 100) << "cannot accept connections now";
    }
    return error;
  }
  return 0;
}

bool IsLackOfResources(int error) {
  return error == UV_EMFILE || error == UV_ENFILE || error == UV_ENOBUFS ||
         error == UV_ENOMEM;
}

}  // namespace reprise

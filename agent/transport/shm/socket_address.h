// The addresses of shm listeners: names of abstract unix sockets.

#ifndef REPRISE_AGENT_TRANSPORT_SHM_SOCKET_ADDRESS_H_
#define REPRISE_AGENT_TRANSPORT_SHM_SOCKET_ADDRESS_H_

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstddef>
#include <cstring>
#include <string>

#include "uv.h"

namespace reprise::shm {

class SocketAddress {
 public:
  // Empty: a name that the kernel picks. 0 or an error of libuv's.
  int Set(const std::string& name) {
    address_ = {};
    address_.sun_family = AF_UNIX;
    size_ = kNameOffset;
    if (name.empty()) return 0;
    // A zero byte tells it from a path.
    if (name.size() > sizeof(address_.sun_path) - 1) return UV_ENAMETOOLONG;
    std::memcpy(address_.sun_path + 1, name.data(), name.size());
    size_ += static_cast<socklen_t>(1 + name.size());
    return 0;
  }
  // To the name that `socket` is bound to.
  int SetFrom(int socket) {
    size_ = sizeof(address_);
    return getsockname(socket, get(), &size_) == 0
               ? 0
               : uv_translate_sys_error(errno);
  }

  std::string name() const {
    if (size_ <= kNameOffset + 1) return "";
    return {address_.sun_path + 1, size_ - kNameOffset - 1};
  }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&address_); }
  socklen_t size() const { return size_; }

 private:
  static constexpr socklen_t kNameOffset = offsetof(sockaddr_un, sun_path);

  sockaddr_un address_ = {};
  socklen_t size_ = 0;
};

}  // namespace reprise::shm

#endif  // REPRISE_AGENT_TRANSPORT_SHM_SOCKET_ADDRESS_H_

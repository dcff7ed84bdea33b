#include "agent/store/tcp_listener.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

// A group may start at once.
constexpr int kBacklog = 4096;

constexpr int kKeepaliveIdleSeconds = 60;
constexpr int kKeepaliveIntervalSeconds = 10;
constexpr int kKeepaliveProbes = 6;
// As long as keepalive takes in all. Keepalive itself rests while bytes are
// under way.
constexpr int kUserTimeoutMs = 120'000;

void SetOption(int file, int level, int option, int value) {
  setsockopt(file, level, option, &value, sizeof(value));
}

// The port that the system has chosen.
uint16_t PortOf(int file) {
  sockaddr_storage address = {};
  socklen_t size = sizeof(address);
  getsockname(file, reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.ss_family == AF_INET6
                   ? reinterpret_cast<sockaddr_in6*>(&address)->sin6_port
                   : reinterpret_cast<sockaddr_in*>(&address)->sin_port);
}

// 0 or an errno value.
int Listen(const addrinfo& address, TcpListener& listener) {
  FileDescriptor file(::socket(address.ai_family,
                               SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
                               IPPROTO_TCP));
  if (file.get() < 0) return errno;
  // So that a server can be started again at once.
  SetOption(file.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (address.ai_family == AF_INET6) {
    SetOption(file.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0);
  }
  if (bind(file.get(), address.ai_addr, address.ai_addrlen) != 0 ||
      listen(file.get(), kBacklog) != 0) {
    return errno;
  }
  listener.port = PortOf(file.get());
  listener.file = std::move(file);
  return 0;
}

std::string Advice(int error) {
  switch (error) {
    case EADDRINUSE:
      return ": another program listens there; end it, or choose another port "
             "(0 is any that is free)";
    case EADDRNOTAVAIL:
      return ": that is not an address of this machine";
    case EACCES:
      return ": only root may listen on ports below 1024";
    default:
      return "";
  }
}

}  // namespace

absl::StatusOr<TcpListener> ListenOnTcp(const std::string& host,
                                        uint16_t port) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | AI_PASSIVE;
  addrinfo* found = nullptr;
  const int error =
      getaddrinfo(host.c_str(), absl::StrCat(port).c_str(), &hints, &found);
  if (error != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot listen on the host ", host, ": ",
                     gai_strerror(error), "; give an address of this machine"));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> addresses(
      found, freeaddrinfo);
  TcpListener listener;
  int first_error = 0;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    const int listen_error = Listen(*one, listener);
    if (listen_error == 0) return listener;
    if (first_error == 0) first_error = listen_error;
  }
  const absl::Status error_status = absl::ErrnoToStatus(
      first_error, absl::StrCat("cannot listen on ", host, " port ", port));
  return absl::FailedPreconditionError(
      absl::StrCat(error_status.message(), Advice(first_error)));
}

AcceptedSocket AcceptTcp(const TcpListener& listener) {
  AcceptedSocket accepted;
  sockaddr_storage address = {};
  socklen_t size = sizeof(address);
  accepted.file = FileDescriptor(accept4(listener.file.get(),
                                         reinterpret_cast<sockaddr*>(&address),
                                         &size, SOCK_CLOEXEC | SOCK_NONBLOCK));
  const int file = accepted.file.get();
  if (file < 0) {
    // Without a descriptor the system says so, whether anybody waits or not.
    const int error = errno;
    pollfd waiting = {listener.file.get(), POLLIN, 0};
    accepted.error = poll(&waiting, 1, 0) == 1 ? error : EAGAIN;
    return accepted;
  }
  SetOption(file, IPPROTO_TCP, TCP_NODELAY, 1);
  SetOption(file, SOL_SOCKET, SO_KEEPALIVE, 1);
  SetOption(file, IPPROTO_TCP, TCP_KEEPIDLE, kKeepaliveIdleSeconds);
  SetOption(file, IPPROTO_TCP, TCP_KEEPINTVL, kKeepaliveIntervalSeconds);
  SetOption(file, IPPROTO_TCP, TCP_KEEPCNT, kKeepaliveProbes);
  SetOption(file, IPPROTO_TCP, TCP_USER_TIMEOUT, kUserTimeoutMs);
  std::array<char, NI_MAXHOST> host = {};
  std::array<char, NI_MAXSERV> port = {};
  if (getnameinfo(reinterpret_cast<sockaddr*>(&address), size, host.data(),
                  host.size(), port.data(), port.size(),
                  NI_NUMERICHOST | NI_NUMERICSERV) == 0) {
    accepted.peer = absl::StrCat(host.data(), " port ", port.data());
  }
  return accepted;
}

}  // namespace reprise

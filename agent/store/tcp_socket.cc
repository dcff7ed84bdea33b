#include "agent/store/tcp_socket.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <memory>

#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

constexpr absl::Duration kConnectTimeout = absl::Seconds(10);
// A wait is cut into polls of this length, so that poll's milliseconds never
// overflow.
constexpr absl::Duration kLongestPoll = absl::Seconds(60);
constexpr size_t kReadBytes = 65536;

std::string WithError(absl::string_view what, int error_number) {
  return std::string(absl::ErrnoToStatus(error_number, what).message());
}

}  // namespace

absl::StatusOr<TcpSocket> TcpSocket::Connect(Runtime& runtime,
                                             const std::string& host,
                                             const std::string& port,
                                             absl::Time deadline) {
  const std::string address = absl::StrCat(host, " port ", port);
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
  if (error != 0) {
    return absl::UnavailableError(absl::StrCat(
        "store: cannot find the host ", host, ": ", gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> addresses(
      found, freeaddrinfo);
  absl::Status status;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    TcpSocket socket(
        runtime, address,
        FileDescriptor(::socket(one->ai_family,
                                SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
                                IPPROTO_TCP)));
    status = socket.ConnectTo(one->ai_addr, one->ai_addrlen, deadline);
    if (status.ok()) return socket;
    if (absl::IsDeadlineExceeded(status)) break;
  }
  return status;
}

absl::Status TcpSocket::ConnectTo(const void* address, size_t size,
                                  absl::Time deadline) {
  if (file_.get() < 0) {
    return Unavailable(WithError("no socket", errno));
  }
  int error = 0;
  if (connect(file_.get(), static_cast<const sockaddr*>(address),
              static_cast<socklen_t>(size)) != 0) {
    error = errno;
  }
  if (error == EINPROGRESS || error == EINTR) {
    absl::Status status = WaitFor(POLLOUT, kConnectTimeout, deadline);
    if (!status.ok()) return status;
    socklen_t length = sizeof(error);
    if (getsockopt(file_.get(), SOL_SOCKET, SO_ERROR, &error, &length) != 0) {
      error = errno;
    }
  }
  if (error != 0) {
    return Unavailable(WithError("cannot connect", error));
  }
  const int on = 1;
  setsockopt(file_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return absl::OkStatus();
}

absl::Status TcpSocket::Write(std::string_view bytes, absl::Time deadline) {
  while (!bytes.empty()) {
    const ssize_t count =
        send(file_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count >= 0) {
      bytes.remove_prefix(static_cast<size_t>(count));
    } else if (errno == EAGAIN) {
      absl::Status status = WaitFor(POLLOUT, kAnswerTimeout, deadline);
      if (!status.ok()) return status;
    } else if (errno != EINTR) {
      return Unavailable(WithError("cannot send", errno));
    }
  }
  return absl::OkStatus();
}

absl::Status TcpSocket::ReadSome(std::string& buffer, absl::Time deadline) {
  while (true) {
    absl::Status status = WaitFor(POLLIN, answer_timeout_, deadline);
    if (!status.ok()) return status;
    // A server that writes an answer in two parts, as PyTorch's does, may wait
    // for our acknowledgement of the first: 40 ms, unless we hurry.
    const int on = 1;
    setsockopt(file_.get(), IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
    std::array<char, kReadBytes> bytes;
    const ssize_t count = recv(file_.get(), bytes.data(), bytes.size(), 0);
    if (count > 0) {
      buffer.append(bytes.data(), static_cast<size_t>(count));
      return absl::OkStatus();
    }
    if (count == 0) return Unavailable("the server closed the connection");
    if (errno != EAGAIN && errno != EINTR) {
      return Unavailable(WithError("cannot receive", errno));
    }
  }
}

bool TcpSocket::IsQuiet() const {
  pollfd polled = {file_.get(), POLLIN, 0};
  return poll(&polled, 1, 0) == 0;
}

absl::Status TcpSocket::WaitFor(int16_t events, absl::Duration timeout,
                                absl::Time deadline) const {
  const absl::Time give_up = runtime_->Now() + timeout;
  while (true) {
    const absl::Time now = runtime_->Now();
    if (now >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("store at ", address_, ": no answer in time"));
    }
    if (now >= give_up) {
      return Unavailable(
          absl::StrCat("no answer for ", absl::FormatDuration(timeout)));
    }
    const absl::Duration left =
        std::min({deadline - now, give_up - now, kLongestPoll});
    pollfd polled = {file_.get(), events, 0};
    const int ready = poll(&polled, 1,
                           static_cast<int>(absl::ToInt64Milliseconds(
                               absl::Ceil(left, absl::Milliseconds(1)))));
    if (ready > 0) return absl::OkStatus();
    if (ready < 0 && errno != EINTR) {
      return Unavailable(WithError("cannot wait", errno));
    }
  }
}

absl::Status TcpSocket::Unavailable(std::string_view what) const {
  return absl::UnavailableError(
      absl::StrCat("store at ", address_, ": ", std::string(what)));
}

}  // namespace reprise

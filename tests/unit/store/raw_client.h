// A client that sends a server the bytes that a test wants.

#ifndef REPRISE_TESTS_UNIT_STORE_RAW_CLIENT_H_
#define REPRISE_TESTS_UNIT_STORE_RAW_CLIENT_H_

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "agent/store/tcp_store_protocol.h"
#include "gtest/gtest.h"

namespace reprise {

// A blocking connection to a port of 127.0.0.1.
class RawClient {
 public:
  explicit RawClient(uint16_t port) {
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    EXPECT_EQ(
        connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)),
        0);
  }
  RawClient(RawClient&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  ~RawClient() {
    if (fd_ >= 0) close(fd_);
  }

  // Returns whether all was taken.
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  // Sends what can be sent without waiting; false when nothing can.
  bool SendSome(std::string_view bytes) {
    return send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT) >
           0;
  }

  // Reads exactly so many bytes, or fewer if the server has closed.
  std::string Receive(size_t size) {
    std::string bytes(size, '\0');
    size_t got = 0;
    while (got < size) {
      const ssize_t count = recv(fd_, bytes.data() + got, size - got, 0);
      if (count <= 0) break;
      got += static_cast<size_t>(count);
    }
    bytes.resize(got);
    return bytes;
  }
  // Waits until the server closes the connection, and reads what comes first.
  std::string ReceiveAll() {
    std::string all;
    for (std::string some = Receive(1); !some.empty(); some = Receive(1)) {
      all += some;
    }
    return all;
  }
  int64_t ReceiveNumber() {
    return static_cast<int64_t>(LittleEndian(Receive(8)));
  }
  std::string ReceiveString() {
    return Receive(static_cast<size_t>(ReceiveNumber()));
  }

 private:
  int fd_ = -1;
};

// The bytes of queries.

inline std::string Number(uint64_t number, int size = 8) {
  std::string bytes;
  AppendLittleEndian(bytes, number, size);
  return bytes;
}

inline std::string String(std::string_view string) {
  std::string bytes;
  AppendTcpStoreString(bytes, string);
  return bytes;
}

inline std::string Handshake() {
  return std::string(1, '\0') + Number(kTcpStoreMagic, 4);
}

// A query of this code and these fields, each as `Number` or `String` made it.
template <typename... Fields>
std::string Query(int code, const Fields&... fields) {
  std::string bytes(1, static_cast<char>(code));
  (bytes.append(fields), ...);
  return bytes;
}

}  // namespace reprise

#endif  // REPRISE_TESTS_UNIT_STORE_RAW_CLIENT_H_

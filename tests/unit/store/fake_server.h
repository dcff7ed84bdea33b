// A server on 127.0.0.1 that sends its clients what the test wants.

#ifndef REPRISE_TESTS_UNIT_STORE_FAKE_SERVER_H_
#define REPRISE_TESTS_UNIT_STORE_FAKE_SERVER_H_

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace reprise {

// The server's end of a connection.
class FakePeer {
 public:
  explicit FakePeer(int fd) : fd_(fd) {}

  void Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
  }
  // Reads exactly so many bytes, or fewer if the client has closed.
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
  // Reads what the client has sent, at least a byte; "" if it has closed.
  std::string ReceiveSome() {
    std::string bytes(65536, '\0');
    const ssize_t count = recv(fd_, bytes.data(), bytes.size(), 0);
    bytes.resize(count > 0 ? static_cast<size_t>(count) : 0);
    return bytes;
  }

 private:
  const int fd_;
};

// Runs `serve(peer, n)` for the n-th connection, from 0, on a thread of its
// own, and then closes the connection. The destructor shuts everything down.
class FakeServer {
 public:
  using Serve = std::function<void(FakePeer&, int)>;

  explicit FakeServer(Serve serve) : serve_(std::move(serve)) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(listener_, 64), 0);
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = std::to_string(ntohs(address.sin_port));
    acceptor_ = std::thread([this] { Accept(); });
  }
  ~FakeServer() {
    shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    {
      std::lock_guard<std::mutex> lock(mutex_);
      for (const int fd : open_) shutdown(fd, SHUT_RDWR);
    }
    for (std::thread& thread : threads_) thread.join();
    close(listener_);
  }

  const std::string& port() const { return port_; }

 private:
  void Accept() {
    for (int number = 0;; ++number) {
      const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) return;
      {
        std::lock_guard<std::mutex> lock(mutex_);
        open_.push_back(fd);
      }
      threads_.emplace_back([this, fd, number] {
        FakePeer peer(fd);
        serve_(peer, number);
        std::lock_guard<std::mutex> lock(mutex_);
        std::erase(open_, fd);
        close(fd);
      });
    }
  }

  const Serve serve_;
  int listener_ = -1;
  std::string port_;
  std::mutex mutex_;
  std::vector<int> open_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace reprise

#endif  // REPRISE_TESTS_UNIT_STORE_FAKE_SERVER_H_

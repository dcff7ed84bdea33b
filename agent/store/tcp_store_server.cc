#include "agent/store/tcp_store_server.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <utility>

#include "absl/status/status.h"
#include "agent/store/posix_file.h"
#include "agent/store/tcp_listener.h"
#include "agent/store/tcp_store_loop.h"

namespace reprise {
namespace {

class Server : public TcpStoreServer {
 public:
  Server(Runtime& runtime, const TcpStoreServerOptions& options,
         TcpListener listener, FileDescriptor epoll, FileDescriptor stop)
      : port_(listener.port),
        stop_(std::move(stop)),
        loop_(runtime, options, std::move(listener), std::move(epoll),
              stop_.get()) {}

  ~Server() override {
    if (thread_ == nullptr) return;
    const uint64_t one = 1;
    while (write(stop_.get(), &one, sizeof(one)) < 0 && errno == EINTR) {
    }
    thread_->Join();
  }

  bool CanRun() const { return loop_.CanRun(); }
  bool StartThread(Runtime& runtime) {
    thread_ = runtime.StartThread("tcp-store", [this] { loop_.Run(); });
    return thread_ != nullptr;
  }

  uint16_t port() const override { return port_; }
  Counts counts() const override { return loop_.counts(); }

 private:
  const uint16_t port_;
  const FileDescriptor stop_;
  TcpStoreLoop loop_;
  std::unique_ptr<Thread> thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TcpStoreServer>> TcpStoreServer::Start(
    Runtime& runtime, const TcpStoreServerOptions& options) {
  FileDescriptor epoll(epoll_create1(EPOLL_CLOEXEC));
  FileDescriptor stop(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (epoll.get() < 0 || stop.get() < 0) {
    return absl::ResourceExhaustedError(
        "cannot serve a TCPStore: the system has no descriptors left");
  }
  absl::StatusOr<TcpListener> listener =
      ListenOnTcp(options.host, options.port);
  if (!listener.ok()) return listener.status();
  auto server = std::make_unique<Server>(runtime, options, *std::move(listener),
                                         std::move(epoll), std::move(stop));
  if (!server->CanRun()) {
    return absl::ResourceExhaustedError(
        "cannot serve a TCPStore: the system has no memory to wait for "
        "clients");
  }
  if (!server->StartThread(runtime)) {
    return absl::ResourceExhaustedError(
        "cannot serve a TCPStore: the system has no threads left");
  }
  return server;
}

}  // namespace reprise

// A connection of the transport uv: it writes and reads frames over a TCP
// socket by libuv.

#ifndef REPRISE_AGENT_TRANSPORT_UV_CONNECTION_H_
#define REPRISE_AGENT_TRANSPORT_UV_CONNECTION_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "agent/transport/arrivals.h"
#include "agent/transport/peer_liveness.h"
#include "agent/transport/uv/context_impl.h"
#include "agent/transport/uv/frame_reader.h"
#include "agent/transport/uv/tcp_peer.h"
#include "tensorpipe/transport/connection_boilerplate.h"
#include "tensorpipe/transport/connection_impl_boilerplate.h"
#include "tensorpipe/transport/uv/sockaddr.h"
#include "uv.h"

namespace reprise {

// Used on the loop's thread, except for `PeerIsOpen`, `PeerIsProcess` and
// `SinceArrival`, which any thread may call; TensorPipe's template hands over
// to it. The context keeps it alive until libuv has closed the handle. Each
// operation calls back once, in order for each direction, with an error after
// the connection failed.
class UvConnection final
    : public tensorpipe::transport::ConnectionImplBoilerplate<
          UvContextImpl, UvListener, UvConnection> {
 public:
  // Connects to `address`.
  UvConnection(ConstructorToken token, std::shared_ptr<UvContextImpl> context,
               std::string id, const std::string& address);
  // Takes over a socket that was accepted.
  UvConnection(ConstructorToken token, std::shared_ptr<UvContextImpl> context,
               std::string id, int fd);
  ~UvConnection() override;

  // Sends what was written since the last call.
  void Send();

  // As `PeerLiveness` has them.
  bool PeerIsOpen();
  bool PeerIsProcess(pid_t pid);
  // As `ArrivalClock` has it.
  absl::Duration SinceArrival();

 protected:
  using ConnectionImplBoilerplate::writeImplFromLoop;

  void initImplFromLoop() override;
  void readImplFromLoop(read_callback_fn done) override;
  void readImplFromLoop(void* into, size_t length,
                        read_callback_fn done) override;
  // An agent reads objects with `MakeChecked`, which also judges them.
  void readImplFromLoop(tensorpipe::AbstractNopHolder& object,
                        read_nop_callback_fn done) override;
  void writeImplFromLoop(const void* bytes, size_t length,
                         write_callback_fn done) override;
  void handleErrorImpl() override;

 private:
  struct Write {
    uint64_t header;  // little-endian
    const void* bytes;
    size_t length;
    write_callback_fn done;
  };
  struct Batch {
    uv_write_t request;
    UvConnection* connection;
    std::vector<Write> writes;
  };

  static void Allocate(uv_handle_t* handle, size_t, uv_buf_t* buffer);
  static void OnRead(uv_stream_t* stream, ssize_t size, const uv_buf_t* buffer);

  void Open();
  void OnSent(const Batch& batch, int status);
  void ReadOn();
  void Fail(int uv_error);
  uv_stream_t* stream() { return reinterpret_cast<uv_stream_t*>(&handle_); }

  const std::optional<tensorpipe::transport::uv::Sockaddr> address_;
  int fd_ = -1;  // until libuv owns the socket
  uv_tcp_t handle_;
  uv_connect_t connect_;
  // The socket while it is open, for other threads than the loop's.
  std::mutex socket_mutex_;
  int socket_ = -1;
  std::mutex peer_mutex_;  // of those who ask, never the loop's
  TcpPeer peer_;
  FrameReader reader_;
  // Whether the read under way goes straight to its place, and not to scratch.
  bool into_place_ = false;
  std::vector<Write> unsent_;
};

}  // namespace reprise

// The public object of such a connection: as TensorPipe's template has it, and
// with `PeerLiveness` and `ArrivalClock`, which a template cannot be asked for.
template <>
class tensorpipe::transport::ConnectionBoilerplate<
    reprise::UvContextImpl, reprise::UvListener, reprise::UvConnection>
    final : public Connection,
            public reprise::PeerLiveness,
            public reprise::ArrivalClock {
 public:
  template <typename... Args>
  ConnectionBoilerplate(tensorpipe::transport::ConnectionImplBoilerplate<
                            reprise::UvContextImpl, reprise::UvListener,
                            reprise::UvConnection>::ConstructorToken token,
                        std::shared_ptr<reprise::UvContextImpl> context,
                        std::string id, Args... args)
      : impl_(std::make_shared<reprise::UvConnection>(
            token, std::move(context), std::move(id), std::move(args)...)) {
    impl_->init();
  }
  explicit ConnectionBoilerplate(std::shared_ptr<reprise::UvConnection> impl)
      : impl_(std::move(impl)) {}
  ~ConnectionBoilerplate() override { impl_->close(); }

  void read(read_callback_fn done) override { impl_->read(std::move(done)); }
  void read(AbstractNopHolder& object, read_nop_callback_fn done) override {
    impl_->read(object, std::move(done));
  }
  void read(void* into, size_t length, read_callback_fn done) override {
    impl_->read(into, length, std::move(done));
  }
  void write(const void* bytes, size_t length,
             write_callback_fn done) override {
    impl_->write(bytes, length, std::move(done));
  }
  void write(const AbstractNopHolder& object, write_callback_fn done) override {
    impl_->write(object, std::move(done));
  }
  void setId(std::string id) override { impl_->setId(std::move(id)); }
  void close() override { impl_->close(); }

  bool PeerIsOpen() override { return impl_->PeerIsOpen(); }
  std::optional<pid_t> PeerPid() override { return std::nullopt; }
  bool PeerIsProcess(pid_t pid) override { return impl_->PeerIsProcess(pid); }
  absl::Duration SinceArrival() override { return impl_->SinceArrival(); }

 private:
  const std::shared_ptr<reprise::UvConnection> impl_;
};

#endif  // REPRISE_AGENT_TRANSPORT_UV_CONNECTION_H_

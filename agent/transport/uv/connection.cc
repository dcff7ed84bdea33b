#include "agent/transport/uv/connection.h"

#include <endian.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "agent/transport/uv/error.h"
#include "agent/transport/uv/listener.h"
#include "agent/transport/uv/tcp_arrival.h"
#include "agent/transport/whole_object.h"
#include "glog/logging.h"

namespace reprise {
namespace {

constexpr size_t kMaxPrintedId = 100;

}  // namespace

UvConnection::UvConnection(ConstructorToken token,
                           std::shared_ptr<UvContextImpl> context,
                           std::string id, const std::string& address)
    : ConnectionImplBoilerplate(token, std::move(context), std::move(id)),
      address_(
          tensorpipe::transport::uv::Sockaddr::createInetSockAddr(address)) {}

UvConnection::UvConnection(ConstructorToken token,
                           std::shared_ptr<UvContextImpl> context,
                           std::string id, int fd)
    : ConnectionImplBoilerplate(token, std::move(context), std::move(id)),
      fd_(fd) {}

UvConnection::~UvConnection() {
  if (fd_ >= 0) ::close(fd_);
}

void UvConnection::initImplFromLoop() {
  context_->enroll(*this);
  uv_tcp_init(context_->loop(), &handle_);
  handle_.data = this;
  Open();
  if (error_) return;
  uv_tcp_nodelay(&handle_, 1);
  const std::lock_guard lock(socket_mutex_);
  uv_fileno(reinterpret_cast<uv_handle_t*>(&handle_), &socket_);
}

bool UvConnection::PeerIsOpen() {
  const std::lock_guard lock(socket_mutex_);
  if (socket_ < 0) return false;
  char byte;
  const ssize_t size = recv(socket_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return size > 0 || (size < 0 && (errno == EAGAIN || errno == EINTR));
}

bool UvConnection::PeerIsProcess(pid_t pid) {
  const std::lock_guard lock(peer_mutex_);
  std::optional<TcpEnds> ends;
  {
    const std::lock_guard socket_lock(socket_mutex_);
    if (socket_ >= 0) ends = TcpEndsOf(socket_);
  }
  return ends.has_value() && peer_.IsHeldBy(pid, *ends);
}

absl::Duration UvConnection::SinceArrival() {
  const std::lock_guard lock(socket_mutex_);
  return socket_ < 0 ? absl::InfiniteDuration() : SinceTcpArrival(socket_);
}

void UvConnection::Open() {
  if (!address_.has_value()) {
    if (const int error = uv_tcp_open(&handle_, fd_); error != 0) {
      return Fail(error);
    }
    fd_ = -1;
    return;
  }
  connect_.data = this;
  const int error = uv_tcp_connect(
      &connect_, &handle_, address_->addr(),
      [](uv_connect_t* request, int status) {
        if (status < 0) static_cast<UvConnection*>(request->data)->Fail(status);
      });
  if (error != 0) Fail(error);
}

void UvConnection::readImplFromLoop(read_callback_fn done) {
  reader_.ReadUpTo(kLongestObject, std::move(done));
  ReadOn();
}

void UvConnection::readImplFromLoop(void* into, size_t length,
                                    read_callback_fn done) {
  reader_.Read(into, length, std::move(done));
  ReadOn();
}

void UvConnection::readImplFromLoop(tensorpipe::AbstractNopHolder& object,
                                    read_nop_callback_fn done) {
  readImplFromLoop(
      [this, &object, done = std::move(done)](const tensorpipe::Error& error,
                                              const void* frame, size_t size) {
        if (error) return done(error);
        if (ReadWholeObject({static_cast<const char*>(frame), size}, object)) {
          return done(tensorpipe::Error::kSuccess);
        }
        done(UvErrorOf(UV_EPROTO));
        Fail(UV_EPROTO);
      });
}

void UvConnection::ReadOn() {
  if (!reader_.Take({})) return Fail(UV_EPROTO);
  if (error_ || !reader_.is_waiting()) return;
  const int error = uv_read_start(stream(), Allocate, OnRead);
  if (error != 0 && error != UV_EALREADY) Fail(error);
}

void UvConnection::Allocate(uv_handle_t* handle, size_t, uv_buf_t* buffer) {
  auto& connection = *static_cast<UvConnection*>(handle->data);
  const absl::Span<char> room = connection.reader_.Room();
  connection.into_place_ = !room.empty();
  *buffer =
      room.empty()
          ? connection.context_->scratch()
          : uv_buf_init(room.data(), static_cast<unsigned int>(std::min<size_t>(
                                         room.size(), size_t{1} << 30)));
}

void UvConnection::OnRead(uv_stream_t* stream, ssize_t size,
                          const uv_buf_t* buffer) {
  auto& connection = *static_cast<UvConnection*>(stream->data);
  if (size < 0) return connection.Fail(static_cast<int>(size));
  FrameReader& reader = connection.reader_;
  const auto count = static_cast<size_t>(size);
  const bool makes_sense = connection.into_place_
                               ? reader.Filled(count)
                               : reader.Take({buffer->base, count});
  if (!makes_sense) return connection.Fail(UV_EPROTO);
  if (!connection.error_ && !reader.is_waiting()) uv_read_stop(stream);
}

void UvConnection::writeImplFromLoop(const void* bytes, size_t length,
                                     write_callback_fn done) {
  if (unsent_.empty()) context_->SendSoon(shared_from_this());
  unsent_.push_back({htole64(length), bytes, length, std::move(done)});
}

void UvConnection::Send() {
  if (unsent_.empty()) return;
  auto batch = std::make_unique<Batch>();
  batch->connection = this;
  batch->writes = std::exchange(unsent_, {});
  batch->request.data = batch.get();
  std::vector<uv_buf_t> buffers;
  buffers.reserve(2 * batch->writes.size());
  for (Write& write : batch->writes) {
    buffers.push_back(
        {reinterpret_cast<char*>(&write.header), sizeof(write.header)});
    if (write.length == 0) continue;
    buffers.push_back(
        {static_cast<char*>(const_cast<void*>(write.bytes)), write.length});
  }
  const int error = uv_write(
      &batch->request, stream(), buffers.data(),
      static_cast<unsigned int>(buffers.size()),
      [](uv_write_t* request, int status) {
        const std::unique_ptr<Batch> done(static_cast<Batch*>(request->data));
        done->connection->OnSent(*done, status);
      });
  if (error != 0) return OnSent(*batch, error);
  static_cast<void>(batch.release());  // the callback owns it now
}

void UvConnection::OnSent(const Batch& batch, int status) {
  if (status < 0) Fail(status);
  for (const Write& write : batch.writes) write.done(error_);
}

void UvConnection::Fail(int uv_error) {
  LOG_IF_EVERY_N(WARNING, uv_error == UV_EPROTO && !error_, 100)
      << "the peer of the uv connection "
      << absl::CHexEscape(id_.substr(0, kMaxPrintedId))
      << " does not speak TensorPipe's protocol: the connection is closed";
  setError(UvErrorOf(uv_error));
}

void UvConnection::handleErrorImpl() {
  reader_.Fail(error_);
  // What the system takes at once still goes out. The rest fails when the
  // handle is closed.
  Send();
  {
    const std::lock_guard lock(socket_mutex_);
    socket_ = -1;
  }
  uv_close(reinterpret_cast<uv_handle_t*>(&handle_), [](uv_handle_t* handle) {
    auto& connection = *static_cast<UvConnection*>(handle->data);
    connection.context_->unenroll(connection);
  });
}

}  // namespace reprise

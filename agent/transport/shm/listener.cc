#include "agent/transport/shm/listener.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <tuple>

#include "absl/strings/str_cat.h"
#include "agent/transport/shm/connection.h"
#include "agent/transport/shm/handles.h"
#include "agent/transport/shm/socket_address.h"
#include "agent/transport/uv/accept.h"
#include "agent/transport/uv/error.h"
#include "glog/logging.h"
#include "tensorpipe/transport/error.h"
#include "uv.h"

namespace reprise::shm {
namespace {

// Connections that the system keeps until they are accepted: beyond that a
// client of TensorPipe's own transport fails at once.
constexpr int kBacklog = 4096;

}  // namespace

void Listener::Listen(const std::string& address) {
  if (context_->is_closed()) {
    address_ = address;
    return Close();
  }
  context_->Add(shared_from_this());
  gate_ = std::make_shared<HandshakeGate>(
      context_->loop(), [this](FileDescriptor socket, PeerHello hello) {
        Admit(std::move(socket), std::move(hello));
      });
  if (const int error = Open(address); error != 0) Fail(error);
}

int Listener::Open(const std::string& address) {
  socket_ = FileDescriptor(
      socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket_.is_open()) return uv_translate_sys_error(errno);
  SocketAddress wanted;
  if (const int error = wanted.Set(address); error != 0) return error;
  if (bind(socket_.get(), wanted.get(), wanted.size()) != 0 ||
      listen(socket_.get(), kBacklog) != 0) {
    return uv_translate_sys_error(errno);
  }
  SocketAddress bound;
  if (const int error = bound.SetFrom(socket_.get()); error != 0) return error;
  if (const int error = Watch(); error != 0) return error;
  address_ = bound.name();
  return 0;
}

int Listener::Watch() {
  return context_->loop().Watch(
      socket_.get(), EPOLLIN,
      [self = shared_from_this()](uint32_t) { self->AcceptAll(); }, watch_);
}

void Listener::AcceptAll() {
  const int error = AcceptWaiting(socket_.get(), [this](int fd) {
    gate_->Add(FileDescriptor(fd));
    return !error_;
  });
  if (error == 0) return;
  if (!IsLackOfResources(error)) return Fail(error);
  Pause();
}

void Listener::Pause() {
  context_->loop().Unwatch(socket_.get(), watch_);
  pause_ = context_->loop().AddTimer(kPauseNs, [self = shared_from_this()] {
    if (const int error = self->Watch(); error != 0) self->Pause();
  });
}

void Listener::Admit(FileDescriptor socket, PeerHello hello) {
  const auto connection = std::make_shared<Connection>(context_);
  connection->SetId(absl::StrCat(id_, ".c", num_connections_++));
  if (const int error = connection->Adopt(std::move(socket), std::move(hello));
      error != 0) {
    LOG_EVERY_N(WARNING, 100)
        << "cannot take a connection over shm: " << UvErrorOf(error).what();
    return;
  }
  accepts_.trigger(tensorpipe::Error::kSuccess,
                   MakeHandle(context_, connection));
}

void Listener::Accept(AcceptDone done) {
  if (error_) return done(error_, nullptr);
  accepts_.arm(std::move(done));
}

void Listener::Close() {
  SetError({std::make_shared<tensorpipe::transport::ListenerClosedError>(),
            __FILE__, __LINE__});
}

void Listener::Fail(int uv_error) { SetError(UvErrorOf(uv_error)); }

void Listener::SetError(tensorpipe::Error error) {
  if (error_) return;
  error_ = std::move(error);
  const std::shared_ptr<Listener> self = shared_from_this();
  context_->loop().CancelTimer(pause_);
  if (socket_.is_open()) context_->loop().Unwatch(socket_.get(), watch_);
  socket_.Close();
  if (gate_ != nullptr) gate_->Close();
  accepts_.triggerAll([this] {
    return std::make_tuple(
        std::cref(error_),
        std::shared_ptr<tensorpipe::transport::Connection>());
  });
  context_->Remove(this);
}

}  // namespace reprise::shm

#include "agent/transport/uv/listener.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <tuple>
#include <utility>

#include "agent/transport/uv/accept.h"
#include "agent/transport/uv/connection.h"
#include "agent/transport/uv/error.h"

namespace reprise {
namespace {

// Connections that the system keeps until they are looked at.
constexpr int kBacklog = 128;

}  // namespace

UvListener::UvListener(ConstructorToken token,
                       std::shared_ptr<UvContextImpl> context, std::string id,
                       const std::string& address)
    : ListenerImplBoilerplate(token, std::move(context), std::move(id)),
      wanted_(tensorpipe::transport::uv::Sockaddr::createInetSockAddr(address)),
      address_(wanted_.str()) {}

void UvListener::initImplFromLoop() {
  context_->enroll(*this);
  address_.clear();
  gate_ = std::make_shared<HandshakeGate>(
      context_->loop(), context_->callers(), [this](int fd) {
        accepts_.trigger(tensorpipe::Error::kSuccess,
                         createAndInitConnection(fd));
      });
  if (const int error = Listen(); error != 0) setError(UvErrorOf(error));
}

int UvListener::Listen() {
  fd_ = socket(wanted_.addr()->sa_family,
               SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd_ < 0) return uv_translate_sys_error(errno);
  const int yes = 1;
  sockaddr_storage bound = {};
  socklen_t size = sizeof(bound);
  auto* const address = reinterpret_cast<sockaddr*>(&bound);
  if (setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0 ||
      bind(fd_, wanted_.addr(), wanted_.addrlen()) != 0 ||
      listen(fd_, kBacklog) != 0 || getsockname(fd_, address, &size) != 0) {
    return uv_translate_sys_error(errno);
  }
  if (const int error = uv_poll_init(context_->loop(), &poll_, fd_);
      error != 0) {
    return error;
  }
  uv_timer_init(context_->loop(), &pause_);
  poll_.data = this;
  pause_.data = this;
  open_handles_ = 2;
  Watch();
  address_ = tensorpipe::transport::uv::Sockaddr(address, size).str();
  return 0;
}

void UvListener::Watch() {
  uv_poll_start(&poll_, UV_READABLE, [](uv_poll_t* poll, int status, int) {
    static_cast<UvListener*>(poll->data)->AcceptAll(status);
  });
}

void UvListener::AcceptAll(int status) {
  if (status != 0) return setError(UvErrorOf(status));
  const int error = AcceptWaiting(fd_, [this](int fd) {
    gate_->OnConnection(fd);
    return !error_;
  });
  if (error == 0) return;
  if (!IsLackOfResources(error)) return setError(UvErrorOf(error));
  uv_poll_stop(&poll_);
  uv_timer_start(
      &pause_,
      [](uv_timer_t* timer) { static_cast<UvListener*>(timer->data)->Watch(); },
      kPauseMs, 0);
}

void UvListener::acceptImplFromLoop(accept_callback_fn done) {
  accepts_.arm(std::move(done));
}

std::string UvListener::addrImplFromLoop() const { return address_; }

void UvListener::handleErrorImpl() {
  accepts_.triggerAll([this] {
    return std::make_tuple(
        std::cref(error_),
        std::shared_ptr<tensorpipe::transport::Connection>());
  });
  gate_->Close();
  if (open_handles_ > 0) {
    const auto closed = [](uv_handle_t* handle) {
      auto& listener = *static_cast<UvListener*>(handle->data);
      if (--listener.open_handles_ == 0) listener.context_->unenroll(listener);
    };
    uv_close(reinterpret_cast<uv_handle_t*>(&poll_), closed);
    uv_close(reinterpret_cast<uv_handle_t*>(&pause_), closed);
  }
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  if (open_handles_ == 0) context_->unenroll(*this);  // it never listened
}

}  // namespace reprise

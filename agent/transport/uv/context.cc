#include "agent/transport/uv/context.h"

#include <signal.h>

#include <utility>

#include "agent/transport/uv/connection.h"
#include "agent/transport/uv/context_impl.h"
#include "agent/transport/uv/listener.h"
#include "tensorpipe/transport/context_boilerplate.h"

namespace reprise {
std::shared_ptr<UvContextImpl> UvContextImpl::create(Callers callers) {
  return std::make_shared<UvContextImpl>(callers);
}

UvContextImpl::UvContextImpl(Callers callers)
    : ContextImplBoilerplate(kUvDomain), callers_(callers) {}

void UvContextImpl::initImplFromLoop() {
  // This thread writes. With SIGPIPE blocked, a broken pipe is an error of the
  // write, whatever the process does about the signal.
  sigset_t broken_pipe;
  sigemptyset(&broken_pipe);
  sigaddset(&broken_pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &broken_pipe, nullptr);
  uv_check_init(loop(), &after_poll_);
  after_poll_.data = this;
  uv_check_start(&after_poll_, [](uv_check_t* check) {
    static_cast<UvContextImpl*>(check->data)->Send();
  });
  uv_unref(reinterpret_cast<uv_handle_t*>(&after_poll_));
}

void UvContextImpl::Send() {
  for (const auto& connection : std::exchange(senders_, {})) {
    connection->Send();
  }
}

void UvContextImpl::handleErrorImpl() {
  uv_close(reinterpret_cast<uv_handle_t*>(&after_poll_), nullptr);
  senders_.clear();
  loop_.close();
}

std::shared_ptr<tensorpipe::transport::Context> MakeUvContext(Callers callers) {
  return std::make_shared<tensorpipe::transport::ContextBoilerplate<
      UvContextImpl, UvListener, UvConnection>>(callers);
}

}  // namespace reprise

// A listener of the transport uv.
//
// It accepts by itself, and not by libuv, which has no way to pause when there
// are no file descriptors: here the listener stays, and who has come waits
// until there are some.

#ifndef REPRISE_AGENT_TRANSPORT_UV_LISTENER_H_
#define REPRISE_AGENT_TRANSPORT_UV_LISTENER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "agent/transport/uv/context_impl.h"
#include "agent/transport/uv/handshake_gate.h"
#include "tensorpipe/common/callback.h"
#include "tensorpipe/transport/listener_impl_boilerplate.h"
#include "tensorpipe/transport/uv/sockaddr.h"
#include "uv.h"

namespace reprise {

// Used on the loop's thread, and kept alive, as a connection is.
class UvListener final : public tensorpipe::transport::ListenerImplBoilerplate<
                             UvContextImpl, UvListener, UvConnection> {
 public:
  UvListener(ConstructorToken token, std::shared_ptr<UvContextImpl> context,
             std::string id, const std::string& address);

 protected:
  void initImplFromLoop() override;
  void acceptImplFromLoop(accept_callback_fn done) override;
  // Empty when it could not listen; to accept fails then, and says why.
  std::string addrImplFromLoop() const override;
  void handleErrorImpl() override;

 private:
  static constexpr uint64_t kPauseMs = 100;

  // 0, or an error of libuv's.
  int Listen();
  void Watch();
  void AcceptAll(int status);

  const tensorpipe::transport::uv::Sockaddr wanted_;
  int fd_ = -1;
  uv_poll_t poll_;  // the two only while it listens
  uv_timer_t pause_;
  int open_handles_ = 0;
  std::string address_;
  std::shared_ptr<Doorman> doorman_;
  tensorpipe::RearmableCallback<
      const tensorpipe::Error&,
      std::shared_ptr<tensorpipe::transport::Connection>>
      accepts_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_UV_LISTENER_H_

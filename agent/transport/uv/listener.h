// A listener of the transport uv.
//
// It calls `accept` itself, because libuv's listener cannot pause when there
// are no file descriptors left. This listener pauses for 100 ms and tries
// again; callers wait in the system's queue meanwhile.

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

// Used on the loop's thread and kept alive by the context, as a connection is.
class UvListener final : public tensorpipe::transport::ListenerImplBoilerplate<
                             UvContextImpl, UvListener, UvConnection> {
 public:
  UvListener(ConstructorToken token, std::shared_ptr<UvContextImpl> context,
             std::string id, const std::string& address);

 protected:
  void initImplFromLoop() override;
  void acceptImplFromLoop(accept_callback_fn done) override;
  // Empty if it could not listen. Then `accept` fails and says why. The wanted
  // address, as with TensorPipe's listeners, if the context was closed before.
  std::string addrImplFromLoop() const override;
  void handleErrorImpl() override;

 private:
  static constexpr uint64_t kPauseMs = 100;

  // Returns 0 or an error code of libuv.
  int Listen();
  void Watch();
  void AcceptAll(int status);

  const tensorpipe::transport::uv::Sockaddr wanted_;
  int fd_ = -1;
  uv_poll_t poll_;  // poll_ and pause_ are used only while it listens
  uv_timer_t pause_;
  int open_handles_ = 0;
  std::string address_;
  std::shared_ptr<HandshakeGate> gate_;
  tensorpipe::RearmableCallback<
      const tensorpipe::Error&,
      std::shared_ptr<tensorpipe::transport::Connection>>
      accepts_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_UV_LISTENER_H_

// A listener of the transport shm.
//
// A lack of descriptors or memory makes it pause; whoever connects waits in the
// system's queue meanwhile.

#ifndef REPRISE_AGENT_TRANSPORT_SHM_LISTENER_H_
#define REPRISE_AGENT_TRANSPORT_SHM_LISTENER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "agent/transport/shm/context_core.h"
#include "agent/transport/shm/file_descriptor.h"
#include "agent/transport/shm/handshake_gate.h"
#include "agent/transport/shm/loop.h"
#include "tensorpipe/common/callback.h"
#include "tensorpipe/common/error.h"
#include "tensorpipe/transport/listener.h"

namespace reprise::shm {

// The loop's thread's. Kept alive by the context until it is closed or has
// failed.
class Listener final : public std::enable_shared_from_this<Listener> {
 public:
  using AcceptDone = tensorpipe::transport::Listener::accept_callback_fn;

  explicit Listener(std::shared_ptr<ContextCore> context)
      : context_(std::move(context)) {}

  // What is in the way is an error of the listener.
  void Listen(const std::string& address);
  void Accept(AcceptDone done);
  // Empty when it could not listen; to accept fails then, and says why. The
  // wanted one, as with TensorPipe's listeners, when the context was closed.
  const std::string& address() const { return address_; }
  void Close();
  void SetId(std::string id) { id_ = std::move(id); }

 private:
  static constexpr int64_t kPauseNs = 100'000'000;

  // 0 or an error of libuv's.
  int Open(const std::string& address);
  int Watch();
  void AcceptAll();
  void Pause();
  void Admit(FileDescriptor socket, PeerHello hello);
  void Fail(int uv_error);
  void SetError(tensorpipe::Error error);

  const std::shared_ptr<ContextCore> context_;
  std::string id_;
  int64_t num_connections_ = 0;
  tensorpipe::Error error_;
  FileDescriptor socket_;
  uint64_t watch_ = 0;
  Loop::TimerId pause_;
  std::string address_;
  std::shared_ptr<HandshakeGate> gate_;
  tensorpipe::RearmableCallback<
      const tensorpipe::Error&,
      std::shared_ptr<tensorpipe::transport::Connection>>
      accepts_;
};

}  // namespace reprise::shm

#endif  // REPRISE_AGENT_TRANSPORT_SHM_LISTENER_H_

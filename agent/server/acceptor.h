// Listens for peers, and publishes the address in the store.
//
// TensorPipe's listener fails when a peer connects and goes away before the
// handshake (except over uv, see agent/transport/uv), and after some errors of
// the system. A listener that has failed is replaced, and the new address is
// published in place of the old one. Pipes that were accepted before live on.
// Where an address cannot be listened at, because its port is busy or file
// descriptors are short, some of TensorPipe's transports end the process. So
// each address is tried first, and tried again later while it does not work.

#ifndef REPRISE_AGENT_SERVER_ACCEPTOR_H_
#define REPRISE_AGENT_SERVER_ACCEPTOR_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/observer.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"
#include "agent/runtime/thread_pool.h"
#include "agent/runtime/timer.h"
#include "agent/store/store.h"
#include "agent/transport/transports.h"
#include "tensorpipe/core/context.h"
#include "tensorpipe/core/listener.h"
#include "tensorpipe/core/pipe.h"

namespace reprise {

// Thread-safe. Before it is destroyed, the connector and the timer must have
// been stopped, `Close` called, and the context joined.
class Acceptor {
 public:
  // `on_pipe` is called on any thread, with no lock held, and must not block.
  // `connector` is a pool of one thread, on which a new listener is made and
  // published. Each access to the store takes at most `store_timeout`.
  Acceptor(Runtime& runtime, Timer& timer, ThreadPool& connector,
           tensorpipe::Context& context,
           const std::vector<TransportEntry>& transports,
           std::shared_ptr<Store> store, std::string address_key,
           absl::Duration store_timeout, Observer* observer,
           std::function<void(std::shared_ptr<tensorpipe::Pipe>)> on_pipe);

  // Opens a listener in place of the present one, if any. UNAVAILABLE with the
  // reason, the system's or TensorPipe's. Must not be called while it runs.
  absl::Status Listen();

  // The URL to publish, of the transport with the lowest priority; empty when
  // there is no listener.
  std::string url();

  // Says that others may find `address`, a `url()`, from now on.
  void Announce(const std::string& address);
  // Says that it is in the store, under `address_key`. Announces it too.
  void Published(const std::string& address);

  // How many listeners were opened, without the first.
  int64_t num_reopens() const { return num_reopens_; }

  // Stops accepting. The connector must have been stopped.
  void Close();

 private:
  absl::Status CannotListen(const std::string& why) const;
  void Arm(const std::shared_ptr<tensorpipe::Listener>& listener,
           uint64_t generation);
  void OnAccept(uint64_t generation, const tensorpipe::Error& error,
                std::shared_ptr<tensorpipe::Pipe> pipe);
  // Runs `step` on the connector, later if no thread can be started now.
  void Run(void (Acceptor::*step)());
  // On the connector.
  void Reopen();
  void Publish();
  void TryLater(void (Acceptor::*step)());

  Runtime& runtime_;
  Timer& timer_;
  ThreadPool& connector_;
  tensorpipe::Context& context_;
  const std::shared_ptr<Store> store_;
  const std::string address_key_;
  const absl::Duration store_timeout_;
  Observer* const observer_;
  const std::function<void(std::shared_ptr<tensorpipe::Pipe>)> on_pipe_;
  std::vector<std::string> listen_urls_;
  std::vector<std::function<absl::Status()>> try_to_listen_;
  std::string published_transport_;
  std::atomic<int64_t> num_reopens_ = 0;
  absl::Duration pause_;  // used on the connector only

  Mutex mutex_;
  std::shared_ptr<tensorpipe::Listener> listener_ ABSL_GUARDED_BY(mutex_);
  // Numbers the listeners, so that the errors of each are reported once.
  uint64_t generation_ ABSL_GUARDED_BY(mutex_) = 0;
  bool failed_ ABSL_GUARDED_BY(mutex_) = false;
  std::string published_ ABSL_GUARDED_BY(mutex_);
  std::string announced_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_SERVER_ACCEPTOR_H_

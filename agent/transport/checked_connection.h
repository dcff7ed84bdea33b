// A connection of a checked transport (checked_transport.h).

#ifndef REPRISE_AGENT_TRANSPORT_CHECKED_CONNECTION_H_
#define REPRISE_AGENT_TRANSPORT_CHECKED_CONNECTION_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "agent/runtime/native_mutex.h"
#include "agent/transport/descriptor_room.h"
#include "agent/transport/peer_check.h"
#include "tensorpipe/common/error.h"
#include "tensorpipe/transport/connection.h"

namespace reprise {

// Counts the calls of TensorPipe's callbacks that are under way on threads that
// no context joins. Thread-safe.
class ForeignCalls {
 public:
  void Begin() {
    NativeMutexLock lock(mutex_);
    ++count_;
  }
  void End() {
    NativeMutexLock lock(mutex_);
    --count_;
    changed_.NotifyAll();
  }
  // Waits until none is under way.
  void Await() {
    NativeMutexLock lock(mutex_);
    while (count_ > 0) changed_.Wait(mutex_);
  }

 private:
  NativeMutex mutex_;
  NativeCondVar changed_;
  int count_ ABSL_GUARDED_BY(mutex_) = 0;
};

// What all parts of one transport share.
struct CheckedCommon {
  const std::string transport;
  const std::shared_ptr<PeerCheck> check;
  const std::shared_ptr<ForeignCalls> foreign_calls =
      std::make_shared<ForeignCalls>();
};

class ConnectionClock;

// Used like the connection that it wraps.
class CheckedConnection
    : public tensorpipe::transport::Connection,
      public std::enable_shared_from_this<CheckedConnection> {
 public:
  // `address`: of the listener at the callee's end.
  static std::shared_ptr<CheckedConnection> Make(
      std::shared_ptr<const CheckedCommon> common,
      std::shared_ptr<tensorpipe::transport::Connection> inner, bool is_caller,
      std::string address);

  CheckedConnection(std::shared_ptr<const CheckedCommon> common,
                    std::shared_ptr<tensorpipe::transport::Connection> inner,
                    bool is_caller, std::string address);

  // How a caller begins.
  enum class Hello {
    kNone,     // not at all, or with something else
    kNewPipe,  // with a new pipe
    kForPipe,  // with a connection for a pipe that there is
  };
  // Reads the first frame, which must be the hello that TensorPipe's core sends
  // to a listener of the core's, and keeps it for the first `read` of an
  // object. `done` is called on the thread of the inner connection. Nothing
  // else may be read before.
  void ReadHello(std::function<void(Hello)> done);

  // Keeps `ticket` as long as there is this connection.
  void Keep(DescriptorRoom::Ticket ticket) { ticket_ = std::move(ticket); }

  void read(read_callback_fn done) override;
  void read(void* into, size_t length, read_callback_fn done) override;
  void read(tensorpipe::AbstractNopHolder& object,
            read_nop_callback_fn done) override;
  void write(const void* bytes, size_t length, write_callback_fn done) override;
  void write(const tensorpipe::AbstractNopHolder& object,
             write_callback_fn done) override;
  void setId(std::string id) override;
  void close() override { inner_->close(); }

 private:
  read_callback_fn Counted(read_callback_fn done);

  const std::shared_ptr<const CheckedCommon> common_;
  const std::shared_ptr<tensorpipe::transport::Connection> inner_;
  const bool is_caller_;
  const std::shared_ptr<ConnectionClock> clock_;
  std::optional<std::string> hello_;
  DescriptorRoom::Ticket ticket_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CHECKED_CONNECTION_H_

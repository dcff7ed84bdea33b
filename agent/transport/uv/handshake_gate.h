// Checks the connections to a listener of the transport uv before TensorPipe
// sees them. Otherwise a single connection that fails would end a listener of
// TensorPipe's and every handshake under way.
//
// A new connection is a pending handshake until its first frames have come
// whole and are such as TensorPipe sends. They are checked in the system's
// buffer and left there, so a pending handshake costs a file descriptor and a
// timer but no memory for what the peer sends. Then the connection is admitted,
// as if it had just come. A connection that sends something else, is closed, or
// sends nothing for `kTimeoutMs` is rejected, and TensorPipe never sees it.

#ifndef REPRISE_AGENT_TRANSPORT_UV_HANDSHAKE_GATE_H_
#define REPRISE_AGENT_TRANSPORT_UV_HANDSHAKE_GATE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <utility>

#include "agent/transport/uv/first_frames.h"
#include "uv.h"

namespace reprise {

// The gate of one listener. Used on the thread of the listener's loop only.
class HandshakeGate : public std::enable_shared_from_this<HandshakeGate> {
 public:
  // A genuine caller needs only a few round trips.
  static constexpr uint64_t kTimeoutMs = 30'000;
  // At most `kMaxPending` handshakes may be pending in a process; beyond that
  // the oldest of the gate are dropped. Each gate keeps at least
  // `kMinPendingPerGate`, so that a flood at one listener cannot close another.
  static constexpr int64_t kMaxPending = 256;
  static constexpr size_t kMinPendingPerGate = 16;

  // `admit` is called with the socket of each connection that is admitted, and
  // takes it over.
  HandshakeGate(uv_loop_t* loop, Callers callers,
                std::function<void(int)> admit,
                uint64_t timeout_ms = kTimeoutMs)
      : loop_(loop),
        callers_(callers),
        admit_(std::move(admit)),
        timeout_ms_(timeout_ms) {}

  // A connection has come. Takes over its socket, `fd`.
  void OnConnection(int fd);
  // Rejects all pending handshakes. To be called before the loop is closed.
  void Close();

  // The number of rejected handshakes of all listeners in this process.
  static int64_t num_rejected();

 private:
  struct PendingHandshake;

  bool IsCrowded() const;
  // Null if the loop cannot watch `fd`.
  PendingHandshake* Receive(int fd);
  // Checks what has come, and returns whether the handshake is still pending.
  // `is_over`: the peer has closed the connection.
  bool StillWaits(PendingHandshake& handshake, bool is_over);
  void OnPoll(PendingHandshake& handshake, int status, int events);
  void OnTimer(PendingHandshake& handshake);
  void Watch(PendingHandshake& handshake);
  void Admit(PendingHandshake& handshake);
  void Reject(PendingHandshake& handshake, const char* why);
  // Stops watching and gives the descriptor to the caller.
  int Release(PendingHandshake& handshake);

  uv_loop_t* const loop_;
  const Callers callers_;
  const std::function<void(int)> admit_;
  const uint64_t timeout_ms_;
  std::list<PendingHandshake*> pending_;  // the oldest first
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_UV_HANDSHAKE_GATE_H_

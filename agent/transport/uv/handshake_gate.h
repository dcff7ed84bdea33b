// Looks at who comes to a listener of the transport uv, before TensorPipe does:
// one connection that fails kills a listener of TensorPipe's, and every
// handshake under way.
//
// A connection waits outside, where it costs a file descriptor and a timer and
// no memory for what it says, until its first frames have come whole and are
// such as TensorPipe sends: they are looked at in the system's buffer and left
// there. Then it is let in, as if it had just come. Who says something else,
// goes away, or says nothing for `kPatienceMs` is turned away, and TensorPipe
// never hears of it.

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

// Of one listener, and used on the thread of its loop.
class Doorman : public std::enable_shared_from_this<Doorman> {
 public:
  // What a genuine caller needs is a few round trips.
  static constexpr uint64_t kPatienceMs = 30'000;
  // When more are waiting with all doormen of the process, those who came first
  // have to go; but not the last few at a door, so that no door can be kept
  // shut at another one.
  static constexpr int64_t kMostGuests = 256;
  static constexpr size_t kLastGuests = 16;

  // `let_in` is called with each connection's socket, and owns it.
  Doorman(uv_loop_t* loop, Callers callers, std::function<void(int)> let_in,
          uint64_t patience_ms = kPatienceMs)
      : loop_(loop),
        callers_(callers),
        let_in_(std::move(let_in)),
        patience_ms_(patience_ms) {}

  // A connection has come; `fd` is its socket, which is owned now.
  void OnConnection(int fd);
  // Turns all away. Before the loop is closed.
  void Close();

  // Of all listeners in this process.
  static int64_t num_turned_away();

 private:
  struct Guest;

  bool IsCrowded() const;
  // Null when the loop cannot watch `fd`.
  Guest* Receive(int fd);
  // False when it waits no longer. `is_over`: no more will come.
  bool StillWaits(Guest& guest, bool is_over);
  void OnPoll(Guest& guest, int status, int events);
  void OnTimer(Guest& guest);
  void Watch(Guest& guest);
  void LetIn(Guest& guest);
  void TurnAway(Guest& guest, const char* why);
  // Ends the watch; the descriptor is the caller's.
  int Release(Guest& guest);

  uv_loop_t* const loop_;
  const Callers callers_;
  const std::function<void(int)> let_in_;
  const uint64_t patience_ms_;
  std::list<Guest*> guests_;  // in the order of their coming
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_UV_HANDSHAKE_GATE_H_

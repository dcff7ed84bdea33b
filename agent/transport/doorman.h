// Looks at who comes to a listener of the transport uv, before TensorPipe does.
//
// A connection waits outside, where it costs a file descriptor and a timer and
// no memory for what it says, until its first frames have come whole and are
// such as TensorPipe sends: they are looked at in the system's buffer and left
// there. Then it is let in, as if it had just come. Who says something else,
// goes away, or says nothing for `kPatience` is turned away, and TensorPipe
// never hears of it.

#ifndef REPRISE_AGENT_TRANSPORT_DOORMAN_H_
#define REPRISE_AGENT_TRANSPORT_DOORMAN_H_

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>

#include "agent/transport/first_frames.h"
#include "uv.h"

namespace reprise {

// Of one listening handle, and used on the thread of its loop.
class Doorman : public std::enable_shared_from_this<Doorman> {
 public:
  // What a genuine caller needs is a few round trips.
  static constexpr uint64_t kPatienceMs = 30'000;
  // When more are waiting, those who came first have to go.
  static constexpr size_t kMostGuests = 256;

  // `callback` is called for each connection that is let in, and for errors.
  Doorman(uv_stream_t* server, uv_connection_cb callback, Callers callers,
          uint64_t patience_ms = kPatienceMs)
      : server_(server),
        callback_(callback),
        callers_(callers),
        patience_ms_(patience_ms) {}

  // libuv's callback for the handle.
  void OnConnection(int status);
  // Hands `client` the connection that is being let in: `uv_accept`.
  int Accept(uv_stream_t* client);
  // Turns all away. Before the handle is closed.
  void Close();

  // Of all listeners in this process.
  static int64_t num_turned_away();

 private:
  struct Guest;

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

  uv_stream_t* const server_;
  const uv_connection_cb callback_;
  const Callers callers_;
  const uint64_t patience_ms_;
  std::list<Guest*> guests_;  // in the order of their coming
  int let_in_ = -1;           // the descriptor for `Accept`
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_DOORMAN_H_

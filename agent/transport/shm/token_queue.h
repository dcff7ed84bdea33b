// Tokens: how one end of a connection tells the other that something has
// happened in a ring.
//
// Every process has queues of tokens, of four bytes each, in shared memory, and
// a connection's hello says to which of them its peer is to post. TensorPipe's
// own ends have one queue for everybody and look at it without pause. Ours have
// one for each peer process, so that no peer can fill or lock another's; and
// when we sleep, a flag beside the queue asks a peer that is ours, too, for a
// byte on the socket.

#ifndef REPRISE_AGENT_TRANSPORT_SHM_TOKEN_QUEUE_H_
#define REPRISE_AGENT_TRANSPORT_SHM_TOKEN_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <functional>

#include "agent/transport/shm/hello.h"
#include "agent/transport/shm/ring.h"

namespace reprise::shm {

// Our end of a queue: what a peer posts to us.
class TokenQueue {
 public:
  // 0 or an error of libuv's.
  int Make(size_t size, Ring::Files& files) { return ring_.Make(size, files); }

  bool HasTokens() const;
  // Takes at most `max` tokens. False when the peer's marker makes no sense.
  bool Take(size_t max, const std::function<void(uint32_t)>& take);
  // The caller has to look at the queue again after it has raised the flag and
  // before it sleeps, with a sequentially consistent fence in between.
  void SetAsleep(bool is_asleep);

 private:
  Ring ring_;
  uint64_t tail_ = 0;
};

// A peer's end: where to post to it what one connection has to say.
class PeerQueue {
 public:
  enum Event : unsigned {
    kWritten = 1,  // to its inbox
    kRead = 2,     // from its outbox
  };

  // 0 or an error of libuv's.
  int Map(const PeerHello& hello, bool may_be_unsealed);
  // Whether the peer's transport is ours, too.
  bool is_ours() const { return is_ours_; }

  // Posts `events`, and those that could not be posted earlier; rings with a
  // byte on `socket` if the peer is ours and sleeps. Does not wait: what cannot
  // be posted now is owed.
  void Post(unsigned events, int socket);
  bool is_owing() const { return owed_ != 0; }

 private:
  bool PostToken(uint32_t token);

  Ring ring_;
  Tokens tokens_;
  bool is_ours_ = false;
  unsigned owed_ = 0;
};

}  // namespace reprise::shm

#endif  // REPRISE_AGENT_TRANSPORT_SHM_TOKEN_QUEUE_H_

// What the two ends of a connection say to each other on their socket: one
// message each, of two tokens and four descriptors.
//
// Functions return 0 or an error of libuv's.

#ifndef REPRISE_AGENT_TRANSPORT_SHM_HELLO_H_
#define REPRISE_AGENT_TRANSPORT_SHM_HELLO_H_

#include <cstdint>

#include "agent/transport/shm/file_descriptor.h"
#include "agent/transport/shm/ring.h"

namespace reprise::shm {

// How a peer wants to be told of events: tokens for its queue.
struct Tokens {
  uint32_t inbox = 0;   // something was written to its inbox
  uint32_t outbox = 0;  // something was read from its outbox
};

struct PeerHello {
  Tokens tokens;
  Ring::Files queue;
  Ring::Files inbox;
};

int SendHello(int socket, const Tokens& tokens, const Ring::Files& queue,
              const Ring::Files& inbox);

// UV_EAGAIN: it has not come. UV_EMFILE: there are too few descriptors for it
// now, and it has been left where it is. UV_EOF. UV_EPROTO: what came is no
// hello. What kind of files the descriptors are is not looked at.
int ReceiveHello(int socket, PeerHello& hello);

}  // namespace reprise::shm

#endif  // REPRISE_AGENT_TRANSPORT_SHM_HELLO_H_

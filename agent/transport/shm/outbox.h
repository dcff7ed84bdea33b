// The peer's side of a connection: its inbox, which we write to, and how to
// tell it.

#ifndef REPRISE_AGENT_TRANSPORT_SHM_OUTBOX_H_
#define REPRISE_AGENT_TRANSPORT_SHM_OUTBOX_H_

#include "agent/transport/shm/hello.h"
#include "agent/transport/shm/ring.h"
#include "agent/transport/shm/token_queue.h"

namespace reprise::shm {

struct Outbox {
  // 0 or an error of libuv's.
  int Map(const PeerHello& hello, bool may_be_unsealed) {
    const int error = queue.Map(hello, may_be_unsealed);
    if (error != 0) return error;
    return ring.MapPeer(hello.inbox.header.get(), hello.inbox.data.get(),
                        may_be_unsealed);
  }

  PeerQueue queue;
  Ring ring;
  RingWriter writer{ring};
};

}  // namespace reprise::shm

#endif  // REPRISE_AGENT_TRANSPORT_SHM_OUTBOX_H_

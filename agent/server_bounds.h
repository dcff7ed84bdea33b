// How much a server holds for the workers that call it.
//
// A peer is everybody who connects under one name; who claims no valid name
// belongs to the peer "?". Names are claims: a worker that connects under the
// name of another uses up the other's share.
//
// Each bound is checked before something is added, so that one request or reply
// may always exceed a bound in bytes, and what runs when a bound is reached
// goes on. docs/calls.md says what becomes of a request beyond a bound.

#ifndef REPRISE_AGENT_SERVER_BOUNDS_H_
#define REPRISE_AGENT_SERVER_BOUNDS_H_

#include <cstddef>

#include "absl/status/status.h"

namespace reprise {

struct ServerBounds {
  struct Bound {
    size_t calls;
    size_t bytes;  // of payloads and tensors
  };

  // Requests that wait for a thread. A further one is refused with
  // RESOURCE_EXHAUSTED, which `SendWithRetries` retries.
  Bound queued_per_peer = {65536, size_t{1} << 30};
  Bound queued_in_all = {size_t{1} << 18, size_t{4} << 30};
  // Requests whose handler was started and has not both returned and answered.
  // Further ones wait in the queue.
  Bound running_per_peer = {65536, size_t{2} << 30};
  Bound running_in_all = {size_t{1} << 18, size_t{8} << 30};
  // Replies that the transport has not taken yet. While a peer has so many, no
  // more of its requests are started; while all peers together have so many, no
  // request is started of a peer that has unwritten replies itself. A
  // connection with so many unwritten replies is not read.
  Bound unwritten_per_peer = {16384, size_t{256} << 20};
  Bound unwritten_in_all = {size_t{1} << 18, size_t{1} << 30};
  // Connections that peers opened. Further ones are closed at once.
  size_t connections_per_peer = 64;
  size_t connections_in_all = 16384;
};

// INVALID_ARGUMENT names the bound that is 0.
absl::Status Validate(const ServerBounds& bounds);

}  // namespace reprise

#endif  // REPRISE_AGENT_SERVER_BOUNDS_H_

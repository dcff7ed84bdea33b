#include "agent/transport/shm/handshake_gate.h"

#include <sys/epoll.h>

#include <atomic>

#include "agent/transport/shm/peer_identity.h"
#include "glog/logging.h"
#include "uv.h"

namespace reprise::shm {
namespace {

std::atomic<int64_t> num_dropped_in_all = 0;
std::atomic<int64_t> num_pending_in_all = 0;

}  // namespace

int64_t HandshakeGate::num_dropped() { return num_dropped_in_all; }

void HandshakeGate::Add(FileDescriptor socket) {
  const Place pending = pending_.emplace(pending_.end());
  ++num_pending_in_all;
  pending->socket = std::move(socket);
  if (Watch(pending) != 0) return Drop(pending, "it cannot be watched");
  pending->timeout =
      loop_.AddTimer(timeout_ns_, [self = shared_from_this(), pending] {
        self->Drop(pending, "its hello did not come");
      });
  if (num_pending_in_all <= kMaxPending || pending_.size() <= kMinPending) {
    return;
  }
  // The oldest one is looked at first, as its hello may have come by now.
  const int oldest = pending_.front().socket.get();
  OnReadable(pending_.begin());
  if (!pending_.empty() && pending_.front().socket.get() == oldest) {
    Drop(pending_.begin(), "too many are waiting");
  }
}

int HandshakeGate::Watch(Place pending) {
  return loop_.Watch(
      pending->socket.get(), EPOLLIN | EPOLLRDHUP,
      [self = shared_from_this(), pending](uint32_t) {
        self->OnReadable(pending);
      },
      pending->watch);
}

void HandshakeGate::OnReadable(Place pending) {
  PeerHello hello;
  switch (ReceiveHello(pending->socket.get(), hello)) {
    case 0:
      admit_(Release(pending), std::move(hello));
      return;
    case UV_EAGAIN:
      return;
    case UV_EMFILE:
      // Those that came first get what is left.
      if (pending != pending_.begin()) {
        return Drop(pending, "there are too few file descriptors");
      }
      loop_.Unwatch(pending->socket.get(), pending->watch);
      loop_.CancelTimer(pending->pause);
      pending->pause =
          loop_.AddTimer(kPauseNs, [self = shared_from_this(), pending] {
            if (self->Watch(pending) != 0) {
              self->Drop(pending, "it cannot be watched");
            }
          });
      return;
    case UV_EOF:
      return Drop(pending, "it went away before its hello");
    default:
      return Drop(pending, "it sent something else than a hello");
  }
}

void HandshakeGate::Drop(Place pending, const char* why) {
  ++num_dropped_in_all;
  LOG_EVERY_N(WARNING, 100) << "dropped a connection over shm, of process "
                            << IdentifyPeer(pending->socket.get()).pid << ": "
                            << why << " (" << num_dropped_in_all << " so far)";
  Release(pending);
}

FileDescriptor HandshakeGate::Release(Place pending) {
  loop_.Unwatch(pending->socket.get(), pending->watch);
  loop_.CancelTimer(pending->timeout);
  loop_.CancelTimer(pending->pause);
  FileDescriptor socket = std::move(pending->socket);
  pending_.erase(pending);
  --num_pending_in_all;
  return socket;
}

void HandshakeGate::Close() {
  while (!pending_.empty()) Release(pending_.begin());
}

}  // namespace reprise::shm

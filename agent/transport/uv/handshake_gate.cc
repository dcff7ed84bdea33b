#include "agent/transport/uv/handshake_gate.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <utility>

#include "glog/logging.h"

namespace reprise {
namespace {

// By SO_RCVLOWAT the system is asked to wake us when enough bytes are there.
// Where it wakes us earlier, a peer that sends in small pieces is looked at
// this often.
constexpr uint64_t kPauseMs = 20;

std::atomic<int64_t> turned_away = 0;
std::atomic<int64_t> waiting = 0;  // at all gates

std::string PeerOf(int fd) {
  sockaddr_storage address = {};
  socklen_t size = sizeof(address);
  char host[NI_MAXHOST];
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
      getnameinfo(reinterpret_cast<const sockaddr*>(&address), size, host,
                  sizeof(host), nullptr, 0, NI_NUMERICHOST) != 0) {
    return "an unknown address";
  }
  return host;
}

}  // namespace

struct HandshakeGate::PendingHandshake {
  uv_poll_t poll;
  uv_timer_t timer;
  HandshakeGate* gate;  // until released
  int fd;
  uint64_t deadline;  // of the loop's clock
  size_t needed = kFrameHeader;
  size_t seen = 0;
  int open_handles = 2;
  std::list<PendingHandshake*>::iterator place;

  static void OnClosed(uv_handle_t* handle) {
    auto* const handshake = static_cast<PendingHandshake*>(handle->data);
    if (--handshake->open_handles == 0) delete handshake;
  }
};

int64_t HandshakeGate::num_rejected() { return turned_away; }

bool HandshakeGate::IsCrowded() const {
  return waiting > kMaxPending && pending_.size() > kMinPendingPerGate;
}

void HandshakeGate::OnConnection(int fd) {
  const std::shared_ptr<HandshakeGate> self = shared_from_this();
  PendingHandshake* const handshake = Receive(fd);
  if (handshake == nullptr || !StillWaits(*handshake, false)) return;
  Watch(*handshake);
  if (!IsCrowded()) return;
  PendingHandshake& first = *pending_.front();
  if (StillWaits(first, false)) Reject(first, "too many are waiting");
}

HandshakeGate::PendingHandshake* HandshakeGate::Receive(int fd) {
  auto handshake = std::make_unique<PendingHandshake>();
  if (uv_poll_init(loop_, &handshake->poll, fd) != 0) {
    close(fd);
    return nullptr;
  }
  uv_timer_init(loop_, &handshake->timer);
  handshake->poll.data = handshake.get();
  handshake->timer.data = handshake.get();
  handshake->gate = this;
  handshake->fd = fd;
  handshake->deadline = uv_now(loop_) + timeout_ms_;
  handshake->place = pending_.insert(pending_.end(), handshake.get());
  ++waiting;
  return handshake.release();
}

void HandshakeGate::Watch(PendingHandshake& handshake) {
  uv_poll_start(&handshake.poll, UV_READABLE | UV_DISCONNECT,
                [](uv_poll_t* poll, int status, int events) {
                  auto* const woken =
                      static_cast<PendingHandshake*>(poll->data);
                  woken->gate->OnPoll(*woken, status, events);
                });
  const uint64_t now = uv_now(loop_);
  uv_timer_start(
      &handshake.timer,
      [](uv_timer_t* timer) {
        auto* const woken = static_cast<PendingHandshake*>(timer->data);
        woken->gate->OnTimer(*woken);
      },
      handshake.deadline > now ? handshake.deadline - now : 0, 0);
}

void HandshakeGate::OnPoll(PendingHandshake& handshake, int status,
                           int events) {
  const std::shared_ptr<HandshakeGate> self = shared_from_this();
  const size_t seen = handshake.seen;
  const bool is_over = status != 0 || (events & UV_DISCONNECT) != 0;
  if (!StillWaits(handshake, is_over) || handshake.seen != seen) return;
  uv_poll_stop(&handshake.poll);
  uv_timer_start(&handshake.timer, handshake.timer.timer_cb, kPauseMs, 0);
}

void HandshakeGate::OnTimer(PendingHandshake& handshake) {
  const std::shared_ptr<HandshakeGate> self = shared_from_this();
  if (uv_now(loop_) < handshake.deadline) return Watch(handshake);
  StillWaits(handshake, true);
}

bool HandshakeGate::StillWaits(PendingHandshake& handshake, bool is_over) {
  while (true) {
    std::string bytes(handshake.needed, '\0');
    const ssize_t size =
        recv(handshake.fd, bytes.data(), bytes.size(), MSG_PEEK | MSG_DONTWAIT);
    if (size < 0 && errno == EINTR) continue;
    if (size == 0 || (size < 0 && errno != EAGAIN)) {
      Reject(handshake, "it went away");
      return false;
    }
    handshake.seen = size < 0 ? 0 : static_cast<size_t>(size);
    if (handshake.seen < handshake.needed) break;
    const FramesVerdict verdict = CheckCaller(bytes, callers_);
    if (verdict.kind == FramesVerdict::kGood) {
      Admit(handshake);
      return false;
    }
    if (verdict.kind == FramesVerdict::kWrong) {
      Reject(handshake, "it does not speak TensorPipe");
      return false;
    }
    handshake.needed = verdict.size;
  }
  if (is_over) {
    Reject(handshake, "its first frames did not come");
    return false;
  }
  const int enough = static_cast<int>(handshake.needed);
  setsockopt(handshake.fd, SOL_SOCKET, SO_RCVLOWAT, &enough, sizeof(enough));
  return true;
}

void HandshakeGate::Admit(PendingHandshake& handshake) {
  const int fd = Release(handshake);
  const int usual = 1;
  setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &usual, sizeof(usual));
  admit_(fd);
}

void HandshakeGate::Reject(PendingHandshake& handshake, const char* why) {
  ++turned_away;
  LOG_EVERY_N(WARNING, 100)
      << "turned away a connection from " << PeerOf(handshake.fd) << ": " << why
      << " (" << turned_away << " so far)";
  close(Release(handshake));
}

int HandshakeGate::Release(PendingHandshake& handshake) {
  pending_.erase(handshake.place);
  --waiting;
  // Both are closed at once, so that the loop no longer watches the descriptor.
  uv_close(reinterpret_cast<uv_handle_t*>(&handshake.poll),
           PendingHandshake::OnClosed);
  uv_close(reinterpret_cast<uv_handle_t*>(&handshake.timer),
           PendingHandshake::OnClosed);
  return handshake.fd;
}

void HandshakeGate::Close() {
  while (!pending_.empty()) close(Release(*pending_.front()));
}

}  // namespace reprise

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

// How often who sends by crumbs is looked at where the system does not heed
// SO_RCVLOWAT, by which it is asked to call when there is enough.
constexpr uint64_t kPauseMs = 20;

std::atomic<int64_t> turned_away = 0;
std::atomic<int64_t> waiting = 0;  // with all doormen

std::string PeerOf(int fd) {
  sockaddr_storage address = {};
  socklen_t size = sizeof(address);
  char host[NI_MAXHOST];
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
      getnameinfo(reinterpret_cast<const sockaddr*>(&address), size, host,
                  sizeof(host), nullptr, 0, NI_NUMERICHOST) != 0) {
    return "somebody";
  }
  return host;
}

}  // namespace

struct Doorman::Guest {
  uv_poll_t poll;
  uv_timer_t timer;
  Doorman* doorman;  // until released
  int fd;
  uint64_t deadline;  // of the loop's clock
  size_t needed = kFrameHeader;
  size_t seen = 0;
  int open_handles = 2;
  std::list<Guest*>::iterator place;

  static void OnClosed(uv_handle_t* handle) {
    auto* const guest = static_cast<Guest*>(handle->data);
    if (--guest->open_handles == 0) delete guest;
  }
};

int64_t Doorman::num_turned_away() { return turned_away; }

bool Doorman::IsCrowded() const {
  return waiting > kMostGuests && guests_.size() > kLastGuests;
}

void Doorman::OnConnection(int fd) {
  const std::shared_ptr<Doorman> self = shared_from_this();
  Guest* const guest = Receive(fd);
  if (guest == nullptr || !StillWaits(*guest, false)) return;
  Watch(*guest);
  if (!IsCrowded()) return;
  Guest& first = *guests_.front();
  if (StillWaits(first, false)) TurnAway(first, "too many are waiting");
}

Doorman::Guest* Doorman::Receive(int fd) {
  auto guest = std::make_unique<Guest>();
  if (uv_poll_init(loop_, &guest->poll, fd) != 0) {
    close(fd);
    return nullptr;
  }
  uv_timer_init(loop_, &guest->timer);
  guest->poll.data = guest.get();
  guest->timer.data = guest.get();
  guest->doorman = this;
  guest->fd = fd;
  guest->deadline = uv_now(loop_) + patience_ms_;
  guest->place = guests_.insert(guests_.end(), guest.get());
  ++waiting;
  return guest.release();
}

void Doorman::Watch(Guest& guest) {
  uv_poll_start(&guest.poll, UV_READABLE | UV_DISCONNECT,
                [](uv_poll_t* poll, int status, int events) {
                  auto* const woken = static_cast<Guest*>(poll->data);
                  woken->doorman->OnPoll(*woken, status, events);
                });
  const uint64_t now = uv_now(loop_);
  uv_timer_start(
      &guest.timer,
      [](uv_timer_t* timer) {
        auto* const woken = static_cast<Guest*>(timer->data);
        woken->doorman->OnTimer(*woken);
      },
      guest.deadline > now ? guest.deadline - now : 0, 0);
}

void Doorman::OnPoll(Guest& guest, int status, int events) {
  const std::shared_ptr<Doorman> self = shared_from_this();
  const size_t seen = guest.seen;
  const bool is_over = status != 0 || (events & UV_DISCONNECT) != 0;
  if (!StillWaits(guest, is_over) || guest.seen != seen) return;
  uv_poll_stop(&guest.poll);
  uv_timer_start(&guest.timer, guest.timer.timer_cb, kPauseMs, 0);
}

void Doorman::OnTimer(Guest& guest) {
  const std::shared_ptr<Doorman> self = shared_from_this();
  if (uv_now(loop_) < guest.deadline) return Watch(guest);
  StillWaits(guest, true);
}

bool Doorman::StillWaits(Guest& guest, bool is_over) {
  while (true) {
    std::string bytes(guest.needed, '\0');
    const ssize_t size =
        recv(guest.fd, bytes.data(), bytes.size(), MSG_PEEK | MSG_DONTWAIT);
    if (size < 0 && errno == EINTR) continue;
    if (size == 0 || (size < 0 && errno != EAGAIN)) {
      TurnAway(guest, "it went away");
      return false;
    }
    guest.seen = size < 0 ? 0 : static_cast<size_t>(size);
    if (guest.seen < guest.needed) break;
    const FramesVerdict verdict = CheckCaller(bytes, callers_);
    if (verdict.kind == FramesVerdict::kGood) {
      LetIn(guest);
      return false;
    }
    if (verdict.kind == FramesVerdict::kWrong) {
      TurnAway(guest, "it does not speak TensorPipe");
      return false;
    }
    guest.needed = verdict.size;
  }
  if (is_over) {
    TurnAway(guest, "its first words did not come");
    return false;
  }
  const int enough = static_cast<int>(guest.needed);
  setsockopt(guest.fd, SOL_SOCKET, SO_RCVLOWAT, &enough, sizeof(enough));
  return true;
}

void Doorman::LetIn(Guest& guest) {
  const int fd = Release(guest);
  const int usual = 1;
  setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &usual, sizeof(usual));
  let_in_(fd);
}

void Doorman::TurnAway(Guest& guest, const char* why) {
  ++turned_away;
  LOG_EVERY_N(WARNING, 100)
      << "turned away a connection from " << PeerOf(guest.fd) << ": " << why
      << " (" << turned_away << " so far)";
  close(Release(guest));
}

int Doorman::Release(Guest& guest) {
  guests_.erase(guest.place);
  --waiting;
  // At once, so that the loop knows nothing of the descriptor any more.
  uv_close(reinterpret_cast<uv_handle_t*>(&guest.poll), Guest::OnClosed);
  uv_close(reinterpret_cast<uv_handle_t*>(&guest.timer), Guest::OnClosed);
  return guest.fd;
}

void Doorman::Close() {
  while (!guests_.empty()) close(Release(*guests_.front()));
}

}  // namespace reprise

#include "agent/transport/doorman.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <utility>

#include "agent/transport/real_uv.h"
#include "glog/logging.h"

namespace reprise {
namespace {

// How often who sends by crumbs is looked at where the system does not heed
// SO_RCVLOWAT, by which it is asked to call when there is enough.
constexpr uint64_t kPauseMs = 20;

std::atomic<int64_t> turned_away = 0;

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

// The connection that has come, out of libuv's hands; -1 when there is none.
int TakeConnection(uv_stream_t* server) {
  auto* const handle = new uv_tcp_t;
  uv_tcp_init(server->loop, handle);
  int fd = -1;
  if (RealUv().accept(server, reinterpret_cast<uv_stream_t*>(handle)) == 0 &&
      uv_fileno(reinterpret_cast<uv_handle_t*>(handle), &fd) == 0) {
    fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  }
  RealUv().close(reinterpret_cast<uv_handle_t*>(handle), [](uv_handle_t* done) {
    delete reinterpret_cast<uv_tcp_t*>(done);
  });
  return fd;
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

void Doorman::OnConnection(int status) {
  if (status != 0) return callback_(server_, status);
  const int fd = TakeConnection(server_);
  if (fd < 0) return;
  const std::shared_ptr<Doorman> self = shared_from_this();
  Guest* const guest = Receive(fd);
  if (guest == nullptr || !StillWaits(*guest, false)) return;
  Watch(*guest);
  if (guests_.size() <= kMostGuests) return;
  Guest& first = *guests_.front();
  if (StillWaits(first, false)) TurnAway(first, "too many are waiting");
}

Doorman::Guest* Doorman::Receive(int fd) {
  auto guest = std::make_unique<Guest>();
  uv_loop_t* const loop = server_->loop;
  if (uv_poll_init(loop, &guest->poll, fd) != 0) {
    close(fd);
    return nullptr;
  }
  uv_timer_init(loop, &guest->timer);
  guest->poll.data = guest.get();
  guest->timer.data = guest.get();
  guest->doorman = this;
  guest->fd = fd;
  guest->deadline = uv_now(loop) + patience_ms_;
  guest->place = guests_.insert(guests_.end(), guest.get());
  return guest.release();
}

void Doorman::Watch(Guest& guest) {
  uv_poll_start(&guest.poll, UV_READABLE | UV_DISCONNECT,
                [](uv_poll_t* poll, int status, int events) {
                  auto* const woken = static_cast<Guest*>(poll->data);
                  woken->doorman->OnPoll(*woken, status, events);
                });
  const uint64_t now = uv_now(server_->loop);
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
  if (uv_now(server_->loop) < guest.deadline) return Watch(guest);
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
  let_in_ = fd;
  callback_(server_, 0);
  if (let_in_ >= 0) close(std::exchange(let_in_, -1));
}

int Doorman::Accept(uv_stream_t* client) {
  if (let_in_ < 0) return UV_EAGAIN;
  const int result = uv_tcp_open(reinterpret_cast<uv_tcp_t*>(client), let_in_);
  if (result == 0) let_in_ = -1;
  return result;
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
  // At once, so that the loop knows nothing of the descriptor any more.
  RealUv().close(reinterpret_cast<uv_handle_t*>(&guest.poll), Guest::OnClosed);
  RealUv().close(reinterpret_cast<uv_handle_t*>(&guest.timer), Guest::OnClosed);
  return guest.fd;
}

void Doorman::Close() {
  while (!guests_.empty()) close(Release(*guests_.front()));
}

}  // namespace reprise

#include "agent/store/tcp_store_loop.h"

#include <errno.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <new>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace reprise {
namespace {

// What epoll knows of the listener and of the end; clients are numbered from
// kFirstClient.
constexpr uint64_t kListener = 0;
constexpr uint64_t kStop = 1;
constexpr uint64_t kFirstClient = 2;

// At most so many connections are accepted, and so many clients served, before
// the others get their turn.
constexpr int kAcceptsATurn = 64;
constexpr int kEventsATurn = 256;
// How often slow clients are looked for, at least; a shorter timeout is looked
// at more often.
constexpr absl::Duration kSweepInterval = absl::Seconds(1);
// After the system had no descriptor, or no memory, for a connection.
constexpr absl::Duration kAcceptPause = absl::Milliseconds(100);
constexpr absl::Duration kLogInterval = absl::Seconds(1);

}  // namespace

TcpStoreLoop::TcpStoreLoop(Runtime& runtime,
                           const TcpStoreServerOptions& options,
                           TcpListener listener, FileDescriptor epoll, int stop)
    : runtime_(runtime),
      options_(options),
      listener_(std::move(listener)),
      epoll_(std::move(epoll)),
      table_(options.max_bytes,
             [this](uint64_t client, std::string bytes) {
               Send(client, std::move(bytes));
             }),
      next_id_(kFirstClient) {
  is_registered_ =
      Register(EPOLL_CTL_ADD, listener_.file.get(), EPOLLIN, kListener) &&
      Register(EPOLL_CTL_ADD, stop, EPOLLIN, kStop);
}

bool TcpStoreLoop::Register(int operation, int file, uint32_t events,
                            uint64_t id) {
  epoll_event event = {};
  event.events = events;
  event.data.u64 = id;
  return epoll_ctl(epoll_.get(), operation, file, &event) == 0;
}

void TcpStoreLoop::Run() {
  std::array<epoll_event, kEventsATurn> events;
  while (true) {
    const int count = epoll_wait(epoll_.get(), events.data(), kEventsATurn,
                                 MillisecondsToWait());
    for (int i = 0; i < count; ++i) {
      const uint64_t id = events[i].data.u64;
      if (id == kStop) return;
      if (id == kListener) {
        Accept();
      } else {
        OnEvents(id, events[i].events);
      }
      Settle();
    }
    Sweep();
    connections_ = static_cast<int64_t>(clients_.size());
    waiting_ = static_cast<int64_t>(table_.num_waiting());
    keys_ = static_cast<int64_t>(table_.num_keys());
    bytes_ = static_cast<int64_t>(table_.bytes());
  }
}

int TcpStoreLoop::MillisecondsToWait() {
  absl::Time until = next_sweep_;
  if (accept_again_ != absl::InfinitePast()) {
    until = std::min(until, accept_again_);
  }
  if (until == absl::InfiniteFuture()) return -1;
  const absl::Duration left =
      std::clamp(until - runtime_.Now(), absl::ZeroDuration(), kSweepInterval);
  return static_cast<int>(
      absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1))));
}

void TcpStoreLoop::Accept() {
  for (int i = 0; i < kAcceptsATurn; ++i) {
    AcceptedSocket accepted = AcceptTcp(listener_);
    int error = accepted.error;
    if (error == EAGAIN) return;
    if (error == 0) {
      try {
        Admit(std::move(accepted));
      } catch (const std::bad_alloc&) {
        error = ENOMEM;
      }
    }
    if (error == EMFILE || error == ENFILE || error == ENOBUFS ||
        error == ENOMEM) {
      if (MakeRoom()) continue;
      Pause(error);
      return;
    }
    // Other errors are those of a connection that has gone already.
  }
}

void TcpStoreLoop::Admit(AcceptedSocket accepted) {
  if (clients_.size() >= options_.max_connections && !MakeRoom()) {
    ++dropped_;
    Log(absl::StrCat("refuses ", accepted.peer, ": there are ",
                     options_.max_connections,
                     " connections already, which is the limit"));
    return;
  }
  const uint64_t id = next_id_++;
  const int file = accepted.file.get();
  const auto added = clients_.try_emplace(id, std::move(accepted.file),
                                          std::move(accepted.peer));
  added.first->second.events = EPOLLIN;
  if (!Register(EPOLL_CTL_ADD, file, EPOLLIN, id)) {
    Close(id, "the system has no room to wait for it");
  }
}

bool TcpStoreLoop::MakeRoom() {
  for (auto it = clients_.lower_bound(first_silent_); it != clients_.end();
       ++it) {
    first_silent_ = it->first;
    if (it->second.client.has_asked()) continue;
    Close(it->first,
          "it has not asked anything yet, and others need its place");
    return true;
  }
  return false;
}

void TcpStoreLoop::Pause(int error) {
  const absl::Status status = absl::ErrnoToStatus(
      error, "has no room for a new connection, which has to wait");
  Log(std::string(status.message()));
  Register(EPOLL_CTL_MOD, listener_.file.get(), 0, kListener);
  accept_again_ = runtime_.Now() + kAcceptPause;
}

void TcpStoreLoop::OnEvents(uint64_t id, uint32_t events) {
  const auto found = clients_.find(id);
  if (found == clients_.end()) return;  // closed in this turn
  absl::Status status;
  try {
    Touch(id, found->second);
    status = Serve(id, found->second.client, events);
  } catch (const std::bad_alloc&) {
    status = absl::ResourceExhaustedError("there is no memory to serve it");
  }
  if (absl::IsCancelled(status)) {
    Close(id, "");
  } else if (!status.ok()) {
    Close(id, std::string(status.message()));
  }
}

absl::Status TcpStoreLoop::Serve(uint64_t id, TcpStoreClient& client,
                                 uint32_t events) {
  const absl::Time now = runtime_.Now();
  const auto handle = [&](TcpStoreRequest request) {
    return table_.Handle(id, std::move(request));
  };
  const bool reads = (events & EPOLLIN) != 0 && !client.is_full();
  // What it sent before it went is served first.
  if ((events & (EPOLLERR | EPOLLHUP)) != 0 && !reads) {
    return absl::CancelledError("it has gone");
  }
  if ((events & EPOLLOUT) != 0) {
    absl::Status status = client.Flush(now, handle);
    if (!status.ok()) return status;
  }
  return reads && !client.is_full() ? client.Receive(now, handle)
                                    : absl::OkStatus();
}

void TcpStoreLoop::Send(uint64_t id, std::string bytes) {
  const auto found = clients_.find(id);
  if (found == clients_.end()) return;
  Entry& entry = found->second;
  Touch(id, entry);
  // One change of a key goes to all that watch it. The rest of what is too much
  // is found once the query has been served.
  if (buffered_ + bytes.size() >
      options_.max_buffered_bytes + kMaxTcpStoreAnswerBytes) {
    entry.has_lost = true;
    return;
  }
  buffered_ += bytes.size();
  entry.buffered += bytes.size();
  entry.client.Send(std::move(bytes), runtime_.Now());
}

void TcpStoreLoop::Touch(uint64_t id, Entry& entry) {
  if (entry.is_touched) return;
  entry.is_touched = true;
  touched_.push_back(id);
}

void TcpStoreLoop::Settle() {
  for (const uint64_t id : std::exchange(touched_, {})) {
    const auto found = clients_.find(id);
    if (found == clients_.end()) continue;
    Entry& entry = found->second;
    entry.is_touched = false;
    const size_t buffered = entry.client.buffered_bytes();
    buffered_ = buffered_ - entry.buffered + buffered;
    entry.buffered = buffered;
    if (entry.has_lost) {
      Close(id, "there is no room for what it has to be sent");
      continue;
    }
    const uint32_t events = (entry.client.is_full() ? 0u : EPOLLIN) |
                            (entry.client.has_unsent() ? EPOLLOUT : 0u);
    if (events != entry.events) {
      entry.events = events;
      Register(EPOLL_CTL_MOD, entry.client.file(), events, id);
    }
    if (entry.client.Deadline(options_.request_timeout) !=
        absl::InfiniteFuture()) {
      next_sweep_ = std::min(
          next_sweep_, runtime_.Now() + std::min(kSweepInterval,
                                                 options_.request_timeout / 4));
    }
  }
  BoundBuffers();
}

void TcpStoreLoop::BoundBuffers() {
  while (buffered_ > options_.max_buffered_bytes) {
    const auto largest = std::max_element(
        clients_.begin(), clients_.end(), [](const auto& a, const auto& b) {
          return a.second.buffered < b.second.buffered;
        });
    Close(largest->first,
          absl::StrCat("all clients together have more than ",
                       options_.max_buffered_bytes,
                       " bytes under way, and it has most of them"));
  }
}

void TcpStoreLoop::Sweep() {
  const absl::Time now = runtime_.Now();
  if (accept_again_ != absl::InfinitePast() && now >= accept_again_) {
    accept_again_ = absl::InfinitePast();
    Register(EPOLL_CTL_MOD, listener_.file.get(), EPOLLIN, kListener);
  }
  if (now < next_sweep_) return;
  next_sweep_ = absl::InfiniteFuture();
  std::vector<uint64_t> slow;
  for (const auto& [id, entry] : clients_) {
    const absl::Time deadline = entry.client.Deadline(options_.request_timeout);
    if (deadline == absl::InfiniteFuture()) continue;
    if (deadline <= now) slow.push_back(id);
    next_sweep_ = now + std::min(kSweepInterval, options_.request_timeout / 4);
  }
  for (const uint64_t id : slow) {
    Close(id, clients_.find(id)->second.client.DeadlineText());
  }
}

void TcpStoreLoop::Close(uint64_t id, std::string_view why) {
  const auto found = clients_.find(id);
  if (!why.empty()) {
    ++dropped_;
    Log(absl::StrCat("ends the connection of ", found->second.client.address(),
                     ": ", std::string(why)));
  }
  table_.Forget(id);
  buffered_ -= found->second.buffered;
  clients_.erase(found);  // which closes the descriptor, and so leaves epoll
}

// The first line at once, and then at most one in each interval: who floods the
// server does not flood its log.
void TcpStoreLoop::Log(std::string_view text) {
  const absl::Time now = runtime_.Now();
  if (now < next_log_) {
    ++unlogged_;
    return;
  }
  next_log_ = now + kLogInterval;
  LOG(WARNING) << "the TCPStore server on port " << listener_.port << " "
               << text
               << (unlogged_ == 0
                       ? ""
                       : absl::StrCat(" (", unlogged_,
                                      " lines like this were left out)"));
  unlogged_ = 0;
}

}  // namespace reprise

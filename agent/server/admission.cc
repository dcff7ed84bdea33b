#include "agent/server/admission.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "agent/planted.h"
#include "agent/probe.h"
#include "agent/runtime/fifo.h"
#include "agent/runtime/memory_reserve.h"

namespace reprise {
namespace {

// Returns an error that names the bound if it has been reached.
absl::Status CheckRoom(const Admission::Load& load,
                       const ServerBounds::Bound& bound, std::string_view of,
                       const char* option, int64_t& for_calls,
                       int64_t& for_bytes) {
  const bool in_calls = load.calls >= bound.calls;
  if (!in_calls && load.bytes < bound.bytes) return absl::OkStatus();
  ++(in_calls ? for_calls : for_bytes);
  return absl::ResourceExhaustedError(
      absl::StrCat(load.calls, " requests with ", load.bytes, " bytes",
                   absl::string_view(of.data(), of.size()),
                   " wait for a thread (server_bounds.", option, " is ",
                   bound.calls, " requests and ", bound.bytes, " bytes)"));
}

bool HasRoom(const Admission::Load& load, const ServerBounds::Bound& bound) {
  return load.calls < bound.calls && load.bytes < bound.bytes;
}

void Add(Admission::Load& load, size_t bytes) {
  ++load.calls;
  load.bytes += bytes;
}

void Subtract(Admission::Load& load, size_t bytes) {
  --load.calls;
  load.bytes -= bytes;
}

}  // namespace

class Admission::Peer {
 public:
  explicit Peer(std::string name) : name_(std::move(name)) {}

 private:
  friend class Admission;
  const std::string name_;
  // All are guarded by the lock of the admission.
  Fifo<Queued> queue_;
  Loads loads_;
  bool in_turns_ = false;
};

Admission::Slot& Admission::Slot::operator=(Slot&& other) noexcept {
  Release();
  admission_ = std::move(other.admission_);
  peer_ = std::move(other.peer_);
  bytes_ = other.bytes_;
  return *this;
}

void Admission::Slot::Release() {
  if (admission_ == nullptr) return;
  const std::shared_ptr<Admission> admission = std::move(admission_);
  const PeerPtr peer = std::move(peer_);
  admission->EndRequest(*peer, bytes_);
}

Admission::Admission(Runtime& runtime, ThreadPool& workers,
                     const ServerBounds& bounds)
    : runtime_(runtime),
      workers_(workers),
      bounds_(bounds),
      mutex_(runtime, "Admission") {}

Admission::~Admission() = default;

absl::StatusOr<Admission::PeerPtr> Admission::Connect(const std::string& name) {
  absl::Status memory = CheckMemory(runtime_);
  MutexLock lock(mutex_);
  if (!memory.ok()) {
    ++refused_.connections;
    return memory;
  }
  const auto found = peers_.find(name);
  const size_t of_peer =
      found == peers_.end() ? 0 : found->second->loads_.connections;
  const bool is_peers = of_peer >= bounds_.connections_per_peer;
  if (is_peers || loads_.connections >= bounds_.connections_in_all) {
    ++refused_.connections;
    return absl::ResourceExhaustedError(
        is_peers
            ? absl::StrCat(name, " has ", of_peer,
                           " connections (server_bounds.connections_per_peer)")
            : absl::StrCat("there are ", loads_.connections,
                           " connections (server_bounds.connections_in_all)"));
  }
  PeerPtr peer;
  if (found != peers_.end()) {
    peer = found->second;
  } else {
    peer = std::make_shared<Peer>(name);
    peers_.emplace(name, peer);
  }
  ++peer->loads_.connections;
  ++loads_.connections;
  return peer;
}

void Admission::Disconnect(Peer& peer) {
  MutexLock lock(mutex_);
  --peer.loads_.connections;
  --loads_.connections;
  EraseIfIdle(peer);
}

absl::Status Admission::Enqueue(const PeerPtr& peer, size_t bytes, Task task) {
  absl::Status memory = CheckMemory(runtime_);
  ThreadPool::Wakeup wakeup;
  MutexLock lock(mutex_);
  // Without a connection there is nobody to answer.
  if (closed_ || peer->loads_.connections == 0) return absl::OkStatus();
  if (!memory.ok()) {
    ++refused_.for_bytes;
    return memory;
  }
  if (!REPRISE_PLANTED(unbounded_queue)) {
    absl::Status status =
        CheckRoom(peer->loads_.queued, bounds_.queued_per_peer,
                  absl::StrCat(" of ", peer->name_), "queued_per_peer",
                  refused_.for_calls, refused_.for_bytes);
    if (status.ok()) {
      status =
          CheckRoom(loads_.queued, bounds_.queued_in_all, " of all peers",
                    "queued_in_all", refused_.for_calls, refused_.for_bytes);
    }
    if (!status.ok()) return status;
  }
  peer->queue_.push_back({std::move(task), bytes});
  Add(peer->loads_.queued, bytes);
  Add(loads_.queued, bytes);
  if (peer->in_turns_) {
    SendThreads(1, wakeup);
  } else if (peer->queue_.size() == 1) {
    ++num_blocked_;
    Unblock(peer, wakeup);
  }
  return absl::OkStatus();
}

bool Admission::MayStart(const Peer& peer) const {
  const Loads& of = peer.loads_;
  return HasRoom(of.running, bounds_.running_per_peer) &&
         HasRoom(of.unwritten, bounds_.unwritten_per_peer) &&
         (of.running.calls == 0 ||
          HasRoom(loads_.running, bounds_.running_in_all)) &&
         (of.unwritten.calls == 0 ||
          HasRoom(loads_.unwritten, bounds_.unwritten_in_all));
}

void Admission::Unblock(const PeerPtr& peer, ThreadPool::Wakeup& wakeup) {
  if (closed_ || peer->in_turns_ || peer->queue_.empty() || !MayStart(*peer)) {
    return;
  }
  peer->in_turns_ = true;
  --num_blocked_;
  turns_.push_back(peer);
  SendThreads(peer->queue_.size(), wakeup);
}

void Admission::UnblockAll(ThreadPool::Wakeup& wakeup) {
  for (const auto& [name, peer] : peers_) {
    if (num_blocked_ == 0) break;
    Unblock(peer, wakeup);
  }
}

// This is called with the lock held, so that no thread is sent once `Close` has
// returned.
void Admission::SendThreads(size_t wanted, ThreadPool::Wakeup& wakeup) {
  const auto most = static_cast<size_t>(workers_.max_threads());
  for (; wanted > 0 && num_threads_ < most; --wanted) {
    ++num_threads_;
    workers_.Run([self = shared_from_this()] { self->Work(); }, wakeup);
  }
}

void Admission::Work() {
  while (true) {
    Task task;
    Slot slot;
    if (!StartNext(task, slot)) return;
    task(std::move(slot));
  }
}

bool Admission::StartNext(Task& task, Slot& slot) {
  MutexLock lock(mutex_);
  while (!closed_ && !turns_.empty()) {
    const PeerPtr turn = std::move(turns_.front());
    Peer& peer = *turn;
    turns_.pop_front();
    if (!MayStart(peer)) {
      REPRISE_PROBE("peer is blocked when its turn comes");
      peer.in_turns_ = false;
      if (turns_.empty() || !REPRISE_PLANTED(blocked_peer_forgotten)) {
        ++num_blocked_;
      }
      continue;
    }
    Queued& next = peer.queue_.front();
    task = std::move(next.task);
    slot = Slot(shared_from_this(), turn, next.bytes);
    Subtract(peer.loads_.queued, next.bytes);
    Subtract(loads_.queued, next.bytes);
    Add(peer.loads_.running, next.bytes);
    Add(loads_.running, next.bytes);
    peer.queue_.pop_front();
    if (peer.queue_.empty()) {
      peer.in_turns_ = false;
    } else if (REPRISE_PLANTED(no_turns)) {
      turns_.push_front(turn);
    } else {
      turns_.push_back(turn);
    }
    return true;
  }
  --num_threads_;
  return false;
}

void Admission::EndRequest(Peer& peer, size_t bytes) {
  ThreadPool::Wakeup wakeup;
  MutexLock lock(mutex_);
  Subtract(peer.loads_.running, bytes);
  Subtract(loads_.running, bytes);
  UnblockAll(wakeup);
  EraseIfIdle(peer);
}

void Admission::ReplyStarted(Peer& peer, size_t bytes) {
  MutexLock lock(mutex_);
  Add(peer.loads_.unwritten, bytes);
  Add(loads_.unwritten, bytes);
}

void Admission::ReplyEnded(Peer& peer, size_t bytes) {
  ThreadPool::Wakeup wakeup;
  MutexLock lock(mutex_);
  Subtract(peer.loads_.unwritten, bytes);
  Subtract(loads_.unwritten, bytes);
  UnblockAll(wakeup);
  EraseIfIdle(peer);
}

void Admission::EraseIfIdle(Peer& peer) {
  const Loads& of = peer.loads_;
  if (of.connections == 0 && of.queued.calls == 0 && of.running.calls == 0 &&
      of.unwritten.calls == 0) {
    peers_.erase(peer.name_);
  }
}

void Admission::Close() {
  std::vector<Fifo<Queued>> dropped;  // destroyed with no lock held
  MutexLock lock(mutex_);
  closed_ = true;
  turns_.clear();
  num_blocked_ = 0;
  for (auto it = peers_.begin(); it != peers_.end();) {
    Peer& peer = *(it++)->second;  // may be erased below
    loads_.queued.calls -= peer.loads_.queued.calls;
    loads_.queued.bytes -= peer.loads_.queued.bytes;
    peer.loads_.queued = {};
    peer.in_turns_ = false;
    dropped.push_back(std::exchange(peer.queue_, {}));
    EraseIfIdle(peer);
  }
}

Admission::Loads Admission::loads() {
  MutexLock lock(mutex_);
  return loads_;
}

Admission::Refused Admission::refused() {
  MutexLock lock(mutex_);
  return refused_;
}

std::vector<std::pair<std::string, Admission::Loads>>
Admission::loads_by_peer() {
  MutexLock lock(mutex_);
  std::vector<std::pair<std::string, Loads>> loads;
  for (const auto& [name, peer] : peers_)
    loads.emplace_back(name, peer->loads_);
  return loads;
}

}  // namespace reprise

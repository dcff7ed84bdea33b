#include "agent/client/peer_set.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "agent/call_error.h"
#include "agent/group/rendezvous.h"
#include "agent/planted.h"
#include "agent/wire/rpc_error.h"
#include "glog/logging.h"

namespace reprise {
namespace {

// How long to wait for a peer's present address when an earlier one is known:
// a store that stalls must not hold up the calls to peers that have not moved.
constexpr absl::Duration kRefreshTimeout = absl::Seconds(1);

constexpr size_t kLongestPrintedAddress = 200;

}  // namespace

PeerSet::PeerSet(Runtime& runtime, Timer& timer, ThreadPool& connector,
                 std::shared_ptr<Store> store, tensorpipe::Context& context,
                 const WorkerDirectory& workers, CallTable& calls,
                 Activity& activity, Metrics& metrics, Observer* observer,
                 Options options)
    : runtime_(runtime),
      timer_(timer),
      connector_(connector),
      store_(std::move(store)),
      context_(context),
      workers_(workers),
      calls_(calls),
      activity_(activity),
      metrics_(metrics),
      observer_(observer),
      options_(std::move(options)),
      mutex_(runtime, "PeerSet"),
      next_generation_(options_.first_generation),
      watch_(runtime, timer, [this](absl::Time now, bool late) {
        return CheckLives(now, late);
      }) {}

void PeerSet::SetAddresses(std::vector<std::string> addresses) {
  MutexLock lock(mutex_);
  for (size_t id = 0; id < addresses.size(); ++id) {
    contacts_[static_cast<WorkerId>(id)].address = std::move(addresses[id]);
  }
}

absl::StatusOr<std::shared_ptr<ClientPipe>> PeerSet::Acquire(
    const MemberPtr& peer) {
  std::shared_ptr<ClientPipe> pipe;
  std::shared_ptr<ClientPipe> outdated;
  bool is_new = false;
  absl::Time start = absl::InfinitePast();
  {
    MutexLock lock(mutex_);
    if (closed_) return absl::FailedPreconditionError("the agent is stopping");
    Peer& entry = peers_[peer->id];
    if (entry.incarnation != peer->incarnation) {
      if (entry.pipe != nullptr && entry.incarnation > peer->incarnation) {
        return absl::UnavailableError(
            absl::StrCat(peer->name, " has left the group"));
      }
      outdated.swap(entry.pipe);
      entry.incarnation = peer->incarnation;
      entry.failures = 0;
      entry.not_before = absl::InfinitePast();
    }
    if (entry.pipe == nullptr) {
      PeerCounters& counters = metrics_.Callee(peer->name);
      if (entry.was_called) {
        ++num_reconnects_;
        counters.reconnects.Add();
      }
      entry.was_called = true;
      entry.pipe = std::make_shared<ClientPipe>(
          runtime_, timer_, *this, peer, activity_, counters,
          next_generation_++, options_.pipe);
      start = entry.not_before;
      is_new = true;
    }
    pipe = entry.pipe;
  }
  if (outdated != nullptr) outdated->Fail("it has left the group");
  if (is_new) {
    if (observer_ != nullptr) {
      observer_->OnPipe("connecting", peer->name, absl::OkStatus());
    }
    const absl::Time now = runtime_.Now();
    if (options_.connect_timeout != absl::InfiniteDuration()) {
      pipe->ExpectWithin(std::max(now, start) + options_.connect_timeout,
                         options_.connect_timeout);
    }
    if (start > now) {
      timer_.Schedule(start, [this, pipe] {
        connector_.Run([this, pipe] { Open(pipe); });
      });
    } else {
      connector_.Run([this, pipe] { Open(pipe); });
    }
  } else if (pipe->num_unwritten() >= options_.max_unwritten_per_peer ||
             // What timed out may still wait, beside as much that did not.
             pipe->num_unwritten_bytes() / 2 >=
                 options_.max_unwritten_bytes_per_peer) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "too much waits to be written to ", peer->name, " (",
        pipe->num_unwritten(), " messages, ", pipe->num_unwritten_bytes(),
        " bytes): its connection is stuck"));
  }
  return pipe;
}

absl::StatusOr<PeerSet::Contact> PeerSet::LookUp(const Member& peer) {
  Contact known{peer.incarnation, peer.address, {}};
  {
    MutexLock lock(mutex_);
    if (closed_) return absl::CancelledError("the agent is stopping");
    const auto found = contacts_.find(peer.id);
    if (found != contacts_.end() &&
        found->second.incarnation == peer.incarnation) {
      known = found->second;
    }
  }
  const absl::Time deadline =
      runtime_.Now() + (known.address.empty() ? options_.store_timeout
                                              : std::min(options_.store_timeout,
                                                         kRefreshTimeout));
  // A worker that was restarted has a new address, and it may be another
  // program. It publishes what it understands before its address.
  absl::StatusOr<std::string> present =
      store_->TryGet(AddressKey(peer.name), deadline);
  if (!present.ok()) {
    VLOG(1) << "no present address of " << peer.name
            << " in the store: " << present.status();
    if (!known.address.empty()) return known;
    return absl::UnavailableError(
        absl::StrCat("no address in the store: ", present.status().message()));
  }
  const bool is_stock = workers_.is_dynamic() && peer.incarnation == 0;
  const absl::StatusOr<std::string> features =
      is_stock ? absl::NotFoundError("")
               : store_->TryGet(FeaturesKey(peer.name), deadline);
  Contact contact{peer.incarnation, *std::move(present), known.features};
  if (features.ok()) {
    contact.features = ParseFeatures(*features);
  } else if (absl::IsNotFound(features.status())) {
    contact.features = ParseFeatures("");  // a stock worker
  }
  MutexLock lock(mutex_);
  contacts_[peer.id] = contact;
  return contact;
}

void PeerSet::Open(const std::shared_ptr<ClientPipe>& pipe) {
  if (pipe->failed()) return;  // in the pause before the attempt
  const Member& peer = pipe->peer();
  const absl::StatusOr<Contact> contact = LookUp(peer);
  if (!contact.ok()) {
    pipe->Fail(std::string(contact.status().message()));
    return;
  }
  const std::string& address = contact->address;
  std::shared_ptr<tensorpipe::Pipe> opened;
  try {
    opened = context_.connect(address,
                              tensorpipe::PipeOptions().remoteName(peer.name));
  } catch (const std::exception& error) {
    // TensorPipe throws for what is no address of a transport that we have.
    pipe->Fail(absl::StrCat(
        "cannot connect to '",
        absl::CHexEscape(address.substr(0, kLongestPrintedAddress)),
        "': ", error.what()));
    return;
  }
  VLOG(1) << "connecting to " << peer.name << " at " << address;
  pipe->Open(opened, contact->features);
}

absl::Time PeerSet::CheckLives(absl::Time now, bool late) {
  std::vector<std::shared_ptr<ClientPipe>> pipes;
  {
    MutexLock lock(mutex_);
    for (const auto& [id, peer] : peers_) {
      if (peer.pipe != nullptr) pipes.push_back(peer.pipe);
    }
  }
  absl::Time next = absl::InfiniteFuture();
  for (const std::shared_ptr<ClientPipe>& pipe : pipes) {
    next = std::min(next, pipe->CheckLiveness(
                              now, late, calls_.HasPending(pipe->peer().id)));
  }
  // Not for each pipe: a tenth of the interval does not matter.
  return std::max(next, now + options_.pipe.keepalive_interval / 10);
}

void PeerSet::OnPipeEstablished(ClientPipe& pipe) {
  if (observer_ != nullptr) {
    observer_->OnPipe("connected", pipe.peer().name, absl::OkStatus());
  }
  if (options_.on_change) {
    options_.on_change({pipe.peer().name, pipe.peer().id, true, {}});
  }
  {
    MutexLock lock(mutex_);
    const auto found = peers_.find(pipe.peer().id);
    if (found != peers_.end() && found->second.pipe.get() == &pipe) {
      found->second.failures = 0;
    }
  }
  if (options_.pipe.keepalive_interval > absl::ZeroDuration()) {
    watch_.Expect(runtime_.Now() + options_.pipe.keepalive_interval);
  }
}

void PeerSet::OnPipeMessage(ClientPipe& pipe, IncomingMessage message) {
  const Member& peer = pipe.peer();
  const int64_t id = message.id();
  pipe.counters().received_bytes.Add(static_cast<int64_t>(message.num_bytes()));
  if (message.type() == kControlResponse) return;  // a sign of life
  if (!IsResponse(message.type())) {
    pipe.Fail("it sent what is no reply");
    return;
  }
  Future::Result result = absl::UnknownError("");
  absl::StatusOr<DecodedMessage> decoded = std::move(message).Decode();
  if (!decoded.ok()) {
    // The handler ran, and would run again.
    result = WithCallError(
        absl::Status(decoded.status().code(),
                     absl::StrCat("cannot read the reply of ", peer.name, ": ",
                                  decoded.status().message())),
        {.source = CallErrorSource::kRemoteAgent});
  } else if (decoded->message.type == MessageType::kException) {
    result = StatusFromException(decoded->message.payload);
  } else {
    result = std::move(decoded->message);
  }
  if (calls_.Complete(peer.id, id, std::move(result))) return;
  VLOG(1) << "late reply to call " << id << " from " << peer.name;
  ++num_late_replies_;
  pipe.counters().late_replies.Add();
  if (observer_ != nullptr) observer_->OnLateReply(peer.id, id);
  if (REPRISE_PLANTED(late_reply_fatal)) pipe.Fail("unknown call id");
}

void PeerSet::OnCallRefused(ClientPipe& pipe, int64_t call_id,
                            const absl::Status& status) {
  calls_.Complete(pipe.peer().id, call_id,
                  WithCallError(status,
                                absl::IsFailedPrecondition(status)
                                    ? CallErrorSource::kRemoteAgent
                                    : CallErrorSource::kTransport,
                                /*may_have_run=*/false));
}

void PeerSet::CancelCall(WorkerId peer, uint64_t pipe_generation,
                         int64_t call_id) {
  std::shared_ptr<ClientPipe> pipe;
  {
    MutexLock lock(mutex_);
    const auto found = peers_.find(peer);
    if (found != peers_.end()) pipe = found->second.pipe;
  }
  if (pipe != nullptr && pipe->generation() == pipe_generation) {
    pipe->Cancel(call_id);
  }
}

void PeerSet::OnPipeFailed(ClientPipe& pipe, const absl::Status& status) {
  const Member& peer = pipe.peer();
  workers_.MarkStale();
  if (!REPRISE_PLANTED(dead_pipe_reused)) {
    const uint64_t jitter = runtime_.RandomBits();
    const absl::Time now = runtime_.Now();
    std::shared_ptr<ClientPipe> forgotten;
    MutexLock lock(mutex_);
    const auto found = peers_.find(peer.id);
    if (found != peers_.end() && found->second.pipe.get() == &pipe) {
      Peer& entry = found->second;
      forgotten.swap(entry.pipe);
      if (!pipe.established()) ++entry.failures;
      entry.not_before = now + Pause(entry.failures, jitter);
    }
  }
  if (observer_ != nullptr) observer_->OnPipe("failed", peer.name, status);
  if (options_.on_change && pipe.established()) {
    options_.on_change({peer.name, peer.id, false, status});
  }
  calls_.FailPipe(peer.id, pipe.generation(),
                  WithCallError(status, CallErrorSource::kTransport));
}

absl::Duration PeerSet::Pause(int failures, uint64_t jitter) const {
  if (failures < 2) return absl::ZeroDuration();
  absl::Duration pause = options_.shortest_pause;
  for (int i = 2; i < failures && pause < options_.longest_pause; ++i) {
    pause *= 2;
  }
  // Between a half and the whole.
  return std::min(pause, options_.longest_pause) *
         (512 + static_cast<int64_t>(jitter % 513)) / 1024;
}

void PeerSet::Close() {
  watch_.Close();
  std::map<WorkerId, Peer> peers;
  {
    MutexLock lock(mutex_);
    closed_ = true;
    peers.swap(peers_);
  }
  std::vector<std::shared_ptr<ClientPipe>> in_order;
  for (auto& [id, peer] : peers) {
    if (peer.pipe != nullptr) in_order.push_back(std::move(peer.pipe));
  }
  if (REPRISE_PLANTED(pointer_order)) {
    std::sort(in_order.begin(), in_order.end());
  }
  for (const std::shared_ptr<ClientPipe>& pipe : in_order) {
    if (pipe->Close() && observer_ != nullptr) {
      observer_->OnPipe("closed", pipe->peer().name, absl::OkStatus());
    }
  }
}

int64_t PeerSet::num_pipes() {
  MutexLock lock(mutex_);
  return std::count_if(peers_.begin(), peers_.end(), [](const auto& entry) {
    return entry.second.pipe != nullptr;
  });
}

std::map<WorkerId, std::string> PeerSet::DescribePipes() {
  MutexLock lock(mutex_);
  std::map<WorkerId, std::string> described;
  for (const auto& [id, peer] : peers_) {
    const std::shared_ptr<ClientPipe>& pipe = peer.pipe;
    described[id] =
        pipe == nullptr
            ? "failed: the next call connects"
            : absl::StrCat(pipe->established() ? "works" : "connects", ": ",
                           pipe->num_unwritten(),
                           " messages wait to be written");
  }
  return described;
}

}  // namespace reprise

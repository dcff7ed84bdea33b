#include "agent/client/peer_set.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/call_error.h"
#include "agent/planted.h"
#include "agent/probe.h"
#include "agent/transport/arrivals.h"
#include "agent/wire/message_codec.h"
#include "agent/wire/rpc_error.h"
#include "glog/logging.h"

namespace reprise {
namespace {

absl::Status UnreadableReply(const Member& peer, const absl::Status& why) {
  absl::Status status(why.code(), absl::StrCat("cannot read the reply of ",
                                               peer.name, ": ", why.message()));
  // What is said of a message that is too large is said of one that is sent.
  if (!IsTooLarge(why)) status = CopyCallError(why, std::move(status));
  // The handler ran, and would run again.
  return WithCallError(std::move(status),
                       {.source = CallErrorSource::kRemoteAgent});
}

}  // namespace

PeerSet::PeerSet(Runtime& runtime, Timer& timer, ThreadPool& connector,
                 DetachedStore& lookups, tensorpipe::Context& context,
                 const WorkerDirectory& workers, CallTable& calls,
                 Activity& activity, Metrics& metrics, Observer* observer,
                 Options options)
    : runtime_(runtime),
      timer_(timer),
      connector_(connector),
      lookups_(lookups),
      context_(context),
      workers_(workers),
      calls_(calls),
      activity_(activity),
      metrics_(metrics),
      observer_(observer),
      options_(std::move(options)),
      next_generation_(options_.first_generation),
      watch_(runtime, timer, [this](absl::Time now, bool late) {
        return CheckLives(now, late);
      }) {
  for (std::unique_ptr<Shard>& shard : shards_) {
    shard = std::make_unique<Shard>(runtime);
  }
}

void PeerSet::SetContacts(std::vector<Contact> contacts) {
  for (size_t i = 0; i < contacts.size(); ++i) {
    const auto id = static_cast<WorkerId>(i);
    Shard& shard = ShardOf(id);
    MutexLock lock(shard.mutex);
    shard.peers[id].contact = std::move(contacts[i]);
  }
}

std::shared_ptr<ClientPipe> PeerSet::MakePipe(const MemberPtr& peer,
                                              PeerCounters& counters,
                                              uint64_t generation) {
  return std::make_shared<ClientPipe>(runtime_, timer_, *this, peer, activity_,
                                      counters, generation, options_.pipe);
}

absl::StatusOr<std::shared_ptr<ClientPipe>> PeerSet::Acquire(
    const MemberPtr& peer) {
  std::shared_ptr<ClientPipe> pipe;
  std::shared_ptr<ClientPipe> outdated;
  std::shared_ptr<ClientPipe> forgotten;
  bool is_new = false;
  absl::Time start = absl::InfinitePast();
  Shard& shard = ShardOf(peer->id);
  {
    MutexLock lock(shard.mutex);
    if (shard.closed) {
      return absl::FailedPreconditionError("the agent is stopping");
    }
    Peer& entry = shard.peers[peer->id];
    if (entry.learned != peer->learned) {
      if (entry.pipe != nullptr && entry.learned > peer->learned) {
        REPRISE_PROBE("call to a member that was replaced");
        return absl::UnavailableError(
            absl::StrCat(peer->name, " has left the group"));
      }
      outdated.swap(entry.pipe);
      forgotten.swap(entry.waiting);
      const bool was_called = entry.was_called;
      entry = Peer();
      entry.was_called = was_called;
      entry.learned = peer->learned;
      entry.contact = {peer->address, peer->features};
    }
    if (entry.pipe == nullptr) {
      PeerCounters& counters = metrics_.Callee(peer->name);
      if (entry.was_called) {
        ++num_reconnects_;
        counters.reconnects.Add();
      }
      entry.was_called = true;
      entry.pipe = MakePipe(peer, counters, next_generation_++);
      entry.was_looked_up = false;
      entry.failed_at.clear();
      entry.failure.clear();
      start = entry.not_before;
      is_new = true;
    }
    pipe = entry.pipe;
  }
  if (outdated != nullptr) {
    REPRISE_PROBE("connection to a member that was replaced");
    outdated->Fail("it has left the group");
  }
  if (is_new) {
    if (observer_ != nullptr) {
      observer_->OnPipe(PipeEvent::kConnecting, peer->name, absl::OkStatus());
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

std::map<WorkerId, std::shared_ptr<ClientPipe>> PeerSet::pipes() {
  std::map<WorkerId, std::shared_ptr<ClientPipe>> pipes;
  for (const std::unique_ptr<Shard>& shard : shards_) {
    MutexLock lock(shard->mutex);
    for (const auto& [id, peer] : shard->peers) {
      if (peer.pipe != nullptr) pipes.emplace(id, peer.pipe);
    }
  }
  return pipes;
}

absl::Time PeerSet::CheckLives(absl::Time now, bool late) {
  absl::Time next = absl::InfiniteFuture();
  for (const auto& [id, pipe] : pipes()) {
    next =
        std::min(next, pipe->CheckLiveness(now, late, calls_.HasPending(id)));
  }
  // Not for each pipe: a tenth of the interval does not matter.
  return std::max(next, now + options_.pipe.keepalive_interval / 10);
}

void PeerSet::OnPipeEstablished(ClientPipe& pipe) {
  if (observer_ != nullptr) {
    observer_->OnPipe(PipeEvent::kConnected, pipe.peer().name,
                      absl::OkStatus());
  }
  if (options_.on_change) {
    options_.on_change({pipe.peer().name, pipe.peer().id, true, {}});
  }
  {
    Shard& shard = ShardOf(pipe.peer().id);
    MutexLock lock(shard.mutex);
    const auto found = shard.peers.find(pipe.peer().id);
    if (found != shard.peers.end() && found->second.pipe.get() == &pipe) {
      found->second.failures = 0;
      found->second.is_outdated = false;
    }
  }
  if (options_.pipe.keepalive_interval > absl::ZeroDuration()) {
    watch_.Expect(runtime_.Now() + options_.pipe.keepalive_interval);
  }
}

void PeerSet::OnPipeMessage(ClientPipe& pipe, IncomingMessage message) {
  const Member& peer = pipe.peer();
  const int64_t id = message.id();
  const std::optional<int64_t> said = ReplyIdOf(message.metadata());
  if (said.has_value() && (*said != id || message.type() == kControlResponse)) {
    pipe.Fail("it sent a reply with two ids");
    return;
  }
  if (message.type() == kControlResponse) {
    ++num_signs_of_life_;
    return;
  }
  pipe.counters().received_bytes.Add(static_cast<int64_t>(message.num_bytes()));
  if (!IsResponse(message.type())) {
    pipe.Fail("it sent what is no reply");
    return;
  }
  Future::Result result = absl::UnknownError("");
  absl::StatusOr<DecodedMessage> decoded = std::move(message).Decode();
  if (!decoded.ok()) {
    result = UnreadableReply(peer, decoded.status());
  } else if (decoded->message.type == MessageType::kException) {
    result = StatusFromException(decoded->message.payload);
  } else {
    if (REPRISE_PLANTED(gpu_future_no_streams)) {
      decoded->message.streams = StreamSet();
    }
    result = std::move(decoded->message);
    if (!result->tensors.empty()) {
      if (const auto memory = calls_.MemoryToCopyTo(peer.id, id)) {
        absl::Status copied = memory->CopyInto(*result);
        if (!copied.ok()) result = UnreadableReply(peer, copied);
      }
    }
  }
  if (calls_.Complete(peer.id, id, std::move(result))) return;
  VLOG(1) << "late reply to call " << id << " from " << peer.name;
  ++num_late_replies_;
  pipe.counters().late_replies.Add();
  if (observer_ != nullptr) observer_->OnLateReply(peer.id, id);
  if (REPRISE_PLANTED(late_reply_fatal)) pipe.Fail("unknown call id");
}

std::shared_ptr<CpuAllocator> PeerSet::ClaimMemory(ClientPipe& pipe,
                                                   int64_t call_id) {
  return calls_.ClaimMemory(pipe.peer().id, pipe.generation(), call_id);
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
    Shard& shard = ShardOf(peer);
    MutexLock lock(shard.mutex);
    const auto found = shard.peers.find(peer);
    if (found != shard.peers.end()) pipe = found->second.pipe;
  }
  if (pipe != nullptr && pipe->generation() == pipe_generation) {
    pipe->Cancel(call_id);
  }
}

bool PeerSet::IsPending(const ClientPipe& pipe, int64_t call_id) {
  return calls_.IsPending(pipe.peer().id, call_id);
}

void PeerSet::OnPipeFailed(ClientPipe& pipe, const absl::Status& status) {
  const Member& peer = pipe.peer();
  workers_.MarkStale();
  if (!REPRISE_PLANTED(dead_pipe_reused)) {
    const uint64_t jitter = runtime_.RandomBits();
    const absl::Time now = runtime_.Now();
    // Declared before the lock: they go after it is released.
    std::shared_ptr<ClientPipe> forgotten;
    std::shared_ptr<ClientPipe> waiting;
    Shard& shard = ShardOf(peer.id);
    MutexLock lock(shard.mutex);
    const auto found = shard.peers.find(peer.id);
    if (found != shard.peers.end() &&
        (found->second.pipe.get() == &pipe ||
         REPRISE_PLANTED(late_failure_forgets_successor))) {
      Peer& entry = found->second;
      forgotten.swap(entry.pipe);
      waiting.swap(entry.waiting);
      // It may have moved.
      entry.is_outdated = true;
      if (!pipe.established()) ++entry.failures;
      entry.not_before = now + Pause(entry.failures, jitter);
    }
  }
  if (observer_ != nullptr) {
    observer_->OnPipe(PipeEvent::kFailed, peer.name, status);
  }
  if (options_.on_change && pipe.established()) {
    options_.on_change({peer.name, peer.id, false, status});
  }
  calls_.FailPipe(peer.id, pipe.generation(),
                  WithCallError(status, CallErrorSource::kTransport,
                                /*may_have_run=*/pipe.has_written()));
  if (REPRISE_PLANTED(successor_fails)) {
    timer_.Schedule(
        runtime_.Now() + absl::Milliseconds(70),
        [this, id = peer.id, generation = pipe.generation(), status] {
          for (uint64_t next = 1; next < 5; ++next) {
            calls_.FailPipe(id, generation + next, status);
          }
        });
  }
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
  is_connecting_ = false;
  watch_.Close();
  std::map<WorkerId, Peer> peers;
  for (const std::unique_ptr<Shard>& shard : shards_) {
    MutexLock lock(shard->mutex);
    shard->closed = true;
    peers.merge(shard->peers);
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
      observer_->OnPipe(PipeEvent::kClosed, pipe->peer().name,
                        absl::OkStatus());
    }
  }
}

int64_t PeerSet::num_pipes() { return static_cast<int64_t>(pipes().size()); }

std::map<WorkerId, std::string> PeerSet::DescribePipes() {
  std::map<WorkerId, std::string> described;
  for (const std::unique_ptr<Shard>& shard : shards_) {
    MutexLock lock(shard->mutex);
    for (const auto& [id, peer] : shard->peers) {
      if (!peer.was_called) continue;
      const std::shared_ptr<ClientPipe>& pipe = peer.pipe;
      described[id] =
          pipe == nullptr
              ? "failed: the next call connects"
              : absl::StrCat(pipe->established() ? "works" : "connects", ": ",
                             pipe->num_unwritten(),
                             " messages wait to be written");
    }
  }
  return described;
}

}  // namespace reprise

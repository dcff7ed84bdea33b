#include "agent/peer_set.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "agent/planted.h"
#include "agent/rendezvous.h"
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
      options_(options),
      mutex_(runtime, "PeerSet") {}

void PeerSet::SetAddresses(std::vector<std::string> addresses) {
  MutexLock lock(mutex_);
  for (size_t id = 0; id < addresses.size(); ++id) {
    addresses_[static_cast<WorkerId>(id)] = {0, std::move(addresses[id])};
  }
}

absl::StatusOr<std::shared_ptr<ClientPipe>> PeerSet::Acquire(
    const MemberPtr& peer) {
  std::shared_ptr<ClientPipe> pipe;
  std::shared_ptr<ClientPipe> outdated;
  bool is_new = false;
  {
    MutexLock lock(mutex_);
    if (closed_) return absl::FailedPreconditionError("the agent is stopping");
    const auto [entry, is_first] = pipes_.try_emplace(peer->id);
    std::shared_ptr<ClientPipe>& current = entry->second;
    if (current != nullptr &&
        current->peer().incarnation != peer->incarnation) {
      if (current->peer().incarnation > peer->incarnation) {
        return absl::UnavailableError(
            absl::StrCat(peer->name, " has left the group"));
      }
      outdated = std::move(current);
    }
    if (current == nullptr) {
      PeerCounters& counters = metrics_.Callee(peer->name);
      if (!is_first) {
        ++num_reconnects_;
        counters.reconnects.Add();
      }
      current =
          std::make_shared<ClientPipe>(runtime_, timer_, *this, peer, activity_,
                                       counters, next_generation_++);
      is_new = true;
    }
    pipe = current;
  }
  if (outdated != nullptr) outdated->Fail("it has left the group");
  if (is_new) {
    if (observer_ != nullptr) {
      observer_->OnPipe("connecting", peer->name, absl::OkStatus());
    }
    if (options_.connect_timeout != absl::InfiniteDuration()) {
      pipe->ExpectWithin(runtime_.Now() + options_.connect_timeout,
                         options_.connect_timeout);
    }
    connector_.Run([this, pipe] { Open(pipe); });
  } else if (pipe->num_unwritten() >= options_.max_unwritten_per_peer) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "too much waits to be written to ", peer->name, " (",
        pipe->num_unwritten(), " messages): its connection is stuck"));
  }
  return pipe;
}

absl::StatusOr<std::string> PeerSet::LookUp(const Member& peer) {
  std::string known = peer.address;
  {
    MutexLock lock(mutex_);
    if (closed_) return absl::CancelledError("the agent is stopping");
    const auto found = addresses_.find(peer.id);
    if (found != addresses_.end() &&
        found->second.incarnation == peer.incarnation) {
      known = found->second.url;
    }
  }
  // A worker that was restarted has a new address.
  absl::StatusOr<std::string> present = store_->TryGet(
      AddressKey(peer.name),
      runtime_.Now() +
          (known.empty() ? options_.store_timeout
                         : std::min(options_.store_timeout, kRefreshTimeout)));
  if (present.ok()) {
    MutexLock lock(mutex_);
    addresses_[peer.id] = {peer.incarnation, *present};
    return present;
  }
  VLOG(1) << "no present address of " << peer.name
          << " in the store: " << present.status();
  if (!known.empty()) return known;
  return absl::UnavailableError(
      absl::StrCat("no address in the store: ", present.status().message()));
}

void PeerSet::Open(const std::shared_ptr<ClientPipe>& pipe) {
  const Member& peer = pipe->peer();
  const absl::StatusOr<std::string> address = LookUp(peer);
  if (!address.ok()) {
    pipe->Fail(std::string(address.status().message()));
    return;
  }
  std::shared_ptr<tensorpipe::Pipe> opened;
  try {
    opened = context_.connect(*address,
                              tensorpipe::PipeOptions().remoteName(peer.name));
  } catch (const std::exception& error) {
    // TensorPipe throws for what is no address of a transport that we have.
    pipe->Fail(absl::StrCat(
        "cannot connect to '",
        absl::CHexEscape(address->substr(0, kLongestPrintedAddress)),
        "': ", error.what()));
    return;
  }
  VLOG(1) << "connecting to " << peer.name << " at " << *address;
  pipe->Open(std::move(opened));
}

void PeerSet::OnPipeWorks(ClientPipe& pipe) {
  if (observer_ != nullptr) {
    observer_->OnPipe("connected", pipe.peer().name, absl::OkStatus());
  }
}

void PeerSet::OnPipeMessage(ClientPipe& pipe, IncomingMessage message) {
  const Member& peer = pipe.peer();
  const int64_t id = message.id();
  pipe.counters().received_bytes.Add(static_cast<int64_t>(message.num_bytes()));
  if (!IsResponse(message.type())) {
    pipe.Fail("it sent what is no reply");
    return;
  }
  Future::Result result = absl::UnknownError("");
  absl::StatusOr<DecodedMessage> decoded = std::move(message).Decode();
  if (!decoded.ok()) {
    result = absl::Status(decoded.status().code(),
                          absl::StrCat("cannot read the reply of ", peer.name,
                                       ": ", decoded.status().message()));
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

void PeerSet::OnPipeFailed(ClientPipe& pipe, const absl::Status& status) {
  const Member& peer = pipe.peer();
  workers_.Doubt();
  if (!REPRISE_PLANTED(dead_pipe_reused)) {
    std::shared_ptr<ClientPipe> forgotten;
    MutexLock lock(mutex_);
    const auto current = pipes_.find(peer.id);
    if (current != pipes_.end() && current->second.get() == &pipe) {
      forgotten.swap(current->second);
    }
  }
  if (observer_ != nullptr) observer_->OnPipe("failed", peer.name, status);
  calls_.FailPipe(peer.id, pipe.generation(), status);
}

void PeerSet::Close() {
  std::map<WorkerId, std::shared_ptr<ClientPipe>> pipes;
  {
    MutexLock lock(mutex_);
    closed_ = true;
    pipes.swap(pipes_);
  }
  std::vector<std::shared_ptr<ClientPipe>> in_order;
  for (auto& [id, pipe] : pipes) {
    if (pipe != nullptr) in_order.push_back(std::move(pipe));
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
  return std::count_if(pipes_.begin(), pipes_.end(), [](const auto& entry) {
    return entry.second != nullptr;
  });
}

std::map<WorkerId, std::string> PeerSet::DescribePipes() {
  MutexLock lock(mutex_);
  std::map<WorkerId, std::string> described;
  for (const auto& [id, pipe] : pipes_) {
    described[id] = pipe == nullptr
                        ? "failed: the next call connects"
                        : absl::StrCat(pipe->works() ? "works" : "connects",
                                       ": ", pipe->num_unwritten(),
                                       " messages wait to be written");
  }
  return described;
}

}  // namespace reprise

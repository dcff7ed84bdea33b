// How a `PeerSet` finds the address of a peer and connects to it.

#include <algorithm>
#include <exception>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "agent/client/peer_set.h"
#include "agent/group/rendezvous.h"
#include "agent/planted.h"
#include "agent/probe.h"
#include "agent/transport/arrivals.h"
#include "glog/logging.h"

namespace reprise {
namespace {

// How long to wait for the present address of a peer when an earlier one is
// known: a store that hangs must not hold up calls to a peer that has not
// moved.
constexpr absl::Duration kRefreshTimeout = absl::Seconds(1);

// A store that honours its deadlines answers at them.
constexpr absl::Duration kToAnswer = absl::Milliseconds(50);

constexpr size_t kLongestPrintedAddress = 200;

}  // namespace

void PeerSet::Open(const std::shared_ptr<ClientPipe>& pipe) {
  if (!is_connecting_ || pipe->failed()) return;
  const MemberPtr peer = pipe->shared_peer();
  Contact contact;
  bool must_look_up = false;
  uint64_t lookup = 0;
  {
    Shard& shard = ShardOf(peer->id);
    MutexLock lock(shard.mutex);
    const auto found = shard.peers.find(peer->id);
    if (found == shard.peers.end() || found->second.pipe != pipe) return;
    Peer& entry = found->second;
    contact = entry.contact;
    must_look_up = contact.address.empty() || entry.is_outdated ||
                   REPRISE_PLANTED(store_asked_first) ||
                   REPRISE_PLANTED(leaver_is_unknown);
    if (must_look_up) {
      entry.waiting = pipe;
      if (entry.lookup != 0) return;
      lookup = next_lookup_++;
      entry.lookup = lookup;
    }
  }
  if (must_look_up) {
    LookUp(peer, lookup, !contact.address.empty());
  } else {
    Connect(*pipe, contact);
  }
}

void PeerSet::LookUp(const MemberPtr& peer, uint64_t lookup, bool is_known) {
  const absl::Time deadline =
      runtime_.Now() + (is_known
                            ? std::min(options_.store_timeout, kRefreshTimeout)
                            : options_.store_timeout);
  // Stock members of a dynamic group publish no features. A worker publishes
  // them before its address.
  const bool is_stock = workers_.is_dynamic() && peer->incarnation == 0;
  const bool runs = lookups_.Spawn([this, peer, lookup, deadline, is_stock](
                                       Store& store) -> DetachedStore::Deliver {
    absl::StatusOr<std::string> address =
        store.TryGet(AddressKey(peer->name), deadline);
    absl::StatusOr<std::string> features = absl::NotFoundError("");
    // A member that leaves takes its address back, and serves for a while.
    const bool has_answer = address.ok() || absl::IsNotFound(address.status());
    if (has_answer && !is_stock) {
      features = store.TryGet(FeaturesKey(peer->name), deadline);
    }
    return [this, peer, lookup, address = std::move(address),
            features = std::move(features)] {
      OnLookedUp(*peer, lookup, address, features);
    };
  });
  if (runs) {
    // In case the store does not keep to its deadline.
    timer_.Schedule(deadline + kToAnswer, [this, peer, lookup] {
      const absl::Status status =
          absl::DeadlineExceededError("the store did not answer in time");
      OnLookedUp(*peer, lookup, status, status);
    });
  } else if (is_connecting_) {
    const absl::Status status = absl::UnavailableError(
        "no thread is free to look it up, and none can be started");
    OnLookedUp(*peer, lookup, status, status);
  }
}

void PeerSet::OnLookedUp(const Member& peer, uint64_t lookup,
                         const absl::StatusOr<std::string>& address,
                         const absl::StatusOr<std::string>& features) {
  std::shared_ptr<ClientPipe> pipe;
  Contact contact;
  std::string cause;  // not empty: it has failed at this address just now
  {
    Shard& shard = ShardOf(peer.id);
    MutexLock lock(shard.mutex);
    const auto found = shard.peers.find(peer.id);
    if (found == shard.peers.end() || found->second.lookup != lookup) {
      REPRISE_PROBE("address found too late");
      return;  // it took too long, or the peer has left
    }
    Peer& entry = found->second;
    entry.lookup = 0;
    entry.was_looked_up = true;
    pipe.swap(entry.waiting);
    const bool has_left = absl::IsNotFound(address.status()) ||
                          (address.ok() && address->empty());
    if (address.ok() || has_left) {
      if (!has_left) entry.contact.address = *address;
      entry.is_outdated = false;
      if (features.ok()) {
        entry.contact.features = ParseFeatures(*features);
      } else if (absl::IsNotFound(features.status())) {
        entry.contact.features = ParseFeatures("");  // a stock worker
      }
    }
    contact = entry.contact;
    if (has_left && REPRISE_PLANTED(leaver_is_unknown)) contact.features = {};
    if (entry.failed_at == contact.address) cause = entry.failure;
  }
  if (!address.ok()) {
    VLOG(1) << "no present address of " << peer.name
            << " in the store: " << address.status();
  }
  if (pipe == nullptr || pipe->failed()) return;
  if (contact.address.empty()) {
    pipe->Fail(
        absl::StrCat("no address in the store: ", address.status().message()));
  } else if (!cause.empty()) {
    REPRISE_PROBE("address has failed before");
    pipe->Fail(cause);
  } else {
    Connect(*pipe, contact);
  }
}

void PeerSet::Connect(ClientPipe& pipe, const Contact& contact) {
  if (!is_connecting_) return;
  const Member& peer = pipe.peer();
  const std::string& address = contact.address;
  const std::shared_ptr<PipeArrivals>& arrivals = options_.pipe.arrivals;
  const uint64_t number = arrivals == nullptr ? 0 : arrivals->NewPipe();
  std::shared_ptr<tensorpipe::Pipe> opened;
  try {
    opened =
        context_.connect(address, tensorpipe::PipeOptions().remoteName(
                                      PipeArrivals::NameOf(peer.name, number)));
  } catch (const std::exception& error) {
    // TensorPipe throws for what is no address of a transport that we have.
    pipe.Fail(absl::StrCat(
        "cannot connect to '",
        absl::CHexEscape(address.substr(0, kLongestPrintedAddress)),
        "': ", error.what()));
    return;
  }
  VLOG(1) << "connecting to " << peer.name << " at " << address;
  pipe.Open(opened, contact.features, number);
}

std::shared_ptr<ClientPipe> PeerSet::Replace(ClientPipe& pipe,
                                             const std::string& cause) {
  // Its owner's listeners were told that it works, and must hear of its end.
  if (pipe.established()) return nullptr;
  const Member& peer = pipe.peer();
  std::shared_ptr<ClientPipe> successor;
  std::shared_ptr<ClientPipe> replaced;
  {
    Shard& shard = ShardOf(peer.id);
    MutexLock lock(shard.mutex);
    const auto found = shard.peers.find(peer.id);
    if (!is_connecting_ || shard.closed || found == shard.peers.end() ||
        found->second.pipe.get() != &pipe || found->second.was_looked_up ||
        runtime_.Now() >= pipe.connect_deadline()) {
      return nullptr;
    }
    Peer& entry = found->second;
    entry.is_outdated = true;
    entry.failed_at = entry.contact.address;
    entry.failure = cause;
    successor =
        MakePipe(pipe.shared_peer(), pipe.counters(), pipe.generation());
    replaced.swap(entry.pipe);
    entry.pipe = successor;
  }
  if (pipe.connect_deadline() != absl::InfiniteFuture()) {
    successor->ExpectWithin(pipe.connect_deadline(), options_.connect_timeout);
  }
  workers_.MarkStale();
  return successor;
}

void PeerSet::OnReplaced(const std::shared_ptr<ClientPipe>& successor) {
  connector_.Run([this, successor] { Open(successor); });
}

}  // namespace reprise

// A store in a cluster of etcd (3.4 or later): for groups on many machines, and
// the only kind that survives the loss of a machine of its own. A cluster of
// three serves as long as two of them do, one of five as long as three.
//
// The URL is etcd://host[:port][,host[:port]...][/prefix]; name every member of
// the cluster. The port is 2379 where it is missing. The store's keys are the
// cluster's keys "prefix/key"; so the prefix keeps the groups of one cluster
// apart. There are no users and no TLS: keep the cluster on a network of its
// own.
//
// Thread-safe. Each call in progress has connections of its own, of which those
// of up to 4 calls are kept for the next. They are not to be shared with a
// forked process. Reads are linearizable: they see what was written before, by
// whomever. `CompareSet` and `Add` read, and write in a transaction that holds
// only if the key has not changed since; under contention they begin again. A
// call that waits polls, with pauses from 0.5 to 100 ms.
//
// A member that cannot be connected to is passed over, and the next call begins
// with one that works. If a member fails during a request, Get, TryGet and Set
// ask the next one, as they can be repeated. CompareSet, Add and Delete return
// UNAVAILABLE and may have had their effect, as after DEADLINE_EXCEEDED; they
// are never sent twice. A member that hangs costs a call up to half of the time
// that it has left, or all of it if it is one of those three; 10 s at most; and
// later calls begin with another member. When the leader fails, the others
// choose another within seconds; meanwhile calls wait, or return UNAVAILABLE.
//
// A value that etcd does not take (1.5 MiB unless it was started with
// --max-request-bytes) is INVALID_ARGUMENT, one for which it has no room
// RESOURCE_EXHAUSTED.

#ifndef REPRISE_AGENT_STORE_ETCD_STORE_H_
#define REPRISE_AGENT_STORE_ETCD_STORE_H_

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "agent/runtime/runtime.h"
#include "agent/store/store.h"

namespace reprise {

// Does not connect yet. `runtime`, a real one, must outlive the store;
// deadlines are on its clock. INVALID_ARGUMENT when `url` is not as above.
absl::StatusOr<std::shared_ptr<Store>> OpenEtcdStore(Runtime& runtime,
                                                     std::string_view url);

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_ETCD_STORE_H_

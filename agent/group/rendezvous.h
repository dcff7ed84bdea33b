// The keys of the store in which the members of a group find each other, those
// of PyTorch's agent: `rpcIsStaticGroup`, `names/<rank>`, `addrs/<name>`; and
// how the workers of a static group exchange their names.
//
// These functions block until `deadline` at most, and return the errors of
// `StoreClient` besides their own.

#ifndef REPRISE_AGENT_GROUP_RENDEZVOUS_H_
#define REPRISE_AGENT_GROUP_RENDEZVOUS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/group/store_client.h"
#include "agent/options.h"
#include "agent/runtime/runtime.h"

namespace reprise {

std::string NameKey(int64_t id);
std::string AddressKey(const std::string& worker_name);
// Ours, beside it: what the worker understands of what stock workers do not
// know ("1 deadline ..."). It is published before the address and never taken
// back, so that a member that leaves can still be called as what it is. In a
// static group, a name that was once ours must not become a stock worker's.
std::string FeaturesKey(const std::string& worker_name);

// Changes the value of `key` from `present` to `desired`, unless it is another
// one by now: then the result is false, and `present` is what it is. A key that
// does not exist is set.
template <typename AnyStore>
absl::StatusOr<bool> ReplaceValue(AnyStore& store, const std::string& key,
                                  std::string& present,
                                  const std::string& desired,
                                  absl::Time deadline) {
  absl::StatusOr<std::string> now =
      store.CompareSet(key, present, desired, deadline);
  if (!now.ok()) return now.status();
  // This is how a store says that there is no such key.
  if (*now == present && present != desired && !present.empty()) {
    now = store.CompareSet(key, "", desired, deadline);
    if (!now.ok()) return now.status();
  }
  if (*now == desired) return true;
  present = *std::move(now);
  return false;
}

// Makes the group a static or a dynamic one. FAILED_PRECONDITION if it is of
// the other kind already.
absl::Status AgreeOnKind(StoreClient& store, bool is_static,
                         absl::Time deadline);

// Publishes our name again if a store that has restarted has lost it.
// ALREADY_EXISTS as below.
absl::Status KeepName(StoreClient& store, const AgentOptions& options,
                      absl::Time deadline);

// Publishes our name and waits for those of all others. The result is by id.
// ALREADY_EXISTS if a name or an id is taken by another worker. Our own name
// at our id may be what we left before a restart; whether it is another worker
// of that name, StaticGroup finds out. DEADLINE_EXCEEDED names the ranks that
// are missing.
absl::StatusOr<std::vector<WorkerInfo>> ExchangeNames(
    Runtime& runtime, StoreClient& store, const AgentOptions& options,
    absl::Time deadline);

}  // namespace reprise

#endif  // REPRISE_AGENT_GROUP_RENDEZVOUS_H_

// How the members of a group find each other in the store.
//
// The keys are those of PyTorch's agent: `rpcIsStaticGroup`, `names/<rank>`,
// `addrs/<name>`.

#ifndef REPRISE_AGENT_GROUP_RENDEZVOUS_H_
#define REPRISE_AGENT_GROUP_RENDEZVOUS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/group/store_client.h"
#include "agent/group/worker_directory.h"
#include "agent/options.h"
#include "agent/runtime/runtime.h"

namespace reprise {

std::string NameKey(int64_t id);
std::string AddressKey(const std::string& worker_name);
// Ours, beside it: what the worker understands of what stock workers do not
// know ("1 deadline ..."). Published before the address. In one group, a name
// that was once ours must not become a stock worker's.
std::string FeaturesKey(const std::string& worker_name);

// Makes the group a static or a dynamic one. FAILED_PRECONDITION when it is of
// the other kind.
absl::Status AgreeOnKind(StoreClient& store, bool is_static,
                         absl::Time deadline);

// Publishes our name and waits for all others. The result is by id.
// ALREADY_EXISTS when a name or an id is taken; to find our own name at our id
// is fine: we are a worker that was restarted. DEADLINE_EXCEEDED names the
// ranks that are missing.
absl::StatusOr<std::vector<WorkerInfo>> MeetNames(Runtime& runtime,
                                                  StoreClient& store,
                                                  const AgentOptions& options,
                                                  absl::Time deadline);

// Waits for the addresses of all workers; the result is by id.
// DEADLINE_EXCEEDED names the workers whose address is missing.
absl::StatusOr<std::vector<std::string>> MeetAddresses(
    Runtime& runtime, StoreClient& store, const WorkerDirectory& workers,
    absl::Time deadline);

}  // namespace reprise

#endif  // REPRISE_AGENT_GROUP_RENDEZVOUS_H_

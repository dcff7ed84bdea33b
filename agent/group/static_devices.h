// What the members of a static group tell each other of their devices, in
//
//   reprise/devices/<name>   "<instance> <devices>" (device_map.h)
//
// A member without GPUs and maps takes no part: it writes nothing and reads
// nothing. What a member of an earlier run has left has another instance.

#ifndef REPRISE_AGENT_GROUP_STATIC_DEVICES_H_
#define REPRISE_AGENT_GROUP_STATIC_DEVICES_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/device/device_map.h"
#include "agent/group/device_router.h"
#include "agent/group/store_client.h"
#include "agent/group/worker_directory.h"

namespace reprise {

// Before the worker enters the group, so that all find it.
absl::Status PublishDevices(StoreClient& store, const std::string& name,
                            const std::string& instance, const DeviceInfo& own,
                            absl::Time deadline);

// Publishes it again if a store that has restarted has lost it.
absl::Status KeepDevices(StoreClient& store, const std::string& name,
                         const std::string& instance, const DeviceInfo& own,
                         absl::Time deadline);

// What the members have published, ours too. `instances` are theirs, by id; ""
// for a stock worker. INVALID_ARGUMENT, with PyTorch's text, when maps do not
// fit.
absl::StatusOr<DeviceRouter::Published> ReadDevices(
    StoreClient& store, const WorkerDirectory& workers, const DeviceInfo& own,
    const std::vector<std::string>& instances, absl::Time deadline);

}  // namespace reprise

#endif  // REPRISE_AGENT_GROUP_STATIC_DEVICES_H_

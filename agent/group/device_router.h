// Where tensors go: the device maps of this worker, and what other members have
// published of theirs.
//
// A reply goes the way back that its request says (agent/wire/call_extras.h),
// or else back where the request's own tensors came from. So nothing depends on
// the name that a caller claims.

#ifndef REPRISE_AGENT_GROUP_DEVICE_ROUTER_H_
#define REPRISE_AGENT_GROUP_DEVICE_ROUTER_H_

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "agent/device/device_map.h"
#include "agent/device/devices.h"
#include "agent/device/stream_set.h"
#include "agent/group/worker_directory.h"
#include "agent/options.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"

namespace reprise {

// Thread-safe.
class DeviceRouter {
 public:
  using Published = std::map<std::string, std::shared_ptr<const DeviceInfo>>;

  // `devices` may be null; all must outlive it.
  DeviceRouter(Runtime& runtime, Devices* devices, const AgentOptions& options,
               const WorkerDirectory& workers);

  // What the members of a static group have published, by name.
  void SetPublished(Published published);

  // From our devices to those of `peer`; null when nothing was said. Lives as
  // long as the options.
  const DeviceMap* MapTo(const std::string& peer) const;

  // From our devices to those of `peer`, which has published the inverse.
  DeviceMap WayBackTo(const Member& peer) const;

  // As `Agent::GetDevices`.
  std::vector<Device> List() const;

  // Gives `streams` one of each GPU in the list. One for which there is none
  // keeps its default stream.
  void AddStreams(StreamSet& streams);

 private:
  std::shared_ptr<const DeviceInfo> PublishedBy(const Member& member) const;
  std::vector<int> Gpus();

  Devices* const devices_;
  const AgentOptions& options_;
  const WorkerDirectory& workers_;

  mutable Mutex mutex_;
  Published published_ ABSL_GUARDED_BY(mutex_);
  // The GPUs in the list, as it was with these members.
  std::shared_ptr<const MemberSnapshot> listed_ ABSL_GUARDED_BY(mutex_);
  std::vector<int> gpus_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise

#endif  // REPRISE_AGENT_GROUP_DEVICE_ROUTER_H_

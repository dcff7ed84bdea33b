#include "agent/group/device_router.h"

#include <set>
#include <utility>

#include "absl/status/statusor.h"
#include "agent/planted.h"

namespace reprise {

DeviceRouter::DeviceRouter(Runtime& runtime, Devices* devices,
                           const AgentOptions& options,
                           const WorkerDirectory& workers)
    : devices_(devices),
      options_(options),
      workers_(workers),
      mutex_(runtime, "DeviceRouter") {}

void DeviceRouter::SetPublished(Published published) {
  MutexLock lock(mutex_);
  published_.swap(published);
  listed_ = nullptr;
}

const DeviceMap* DeviceRouter::MapTo(const std::string& peer) const {
  const auto map = options_.device_maps.find(peer);
  return map == options_.device_maps.end() ? nullptr : &map->second;
}

std::shared_ptr<const DeviceInfo> DeviceRouter::PublishedBy(
    const Member& member) const {
  if (workers_.is_dynamic()) return member.devices;
  MutexLock lock(mutex_);
  const auto found = published_.find(member.name);
  return found == published_.end() ? nullptr : found->second;
}

DeviceMap DeviceRouter::WayBackTo(const Member& peer) const {
  const std::shared_ptr<const DeviceInfo> info = PublishedBy(peer);
  if (info == nullptr) return {};
  if (REPRISE_PLANTED(join_wrong_reverse_map) && !info->maps.empty()) {
    // Planted: any map is reversed, whichever worker it was made for.
    return Reverse(info->maps.begin()->second);
  }
  const auto map = info->maps.find(workers_.self().name);
  return map == info->maps.end() ? DeviceMap() : Reverse(map->second);
}

std::vector<Device> DeviceRouter::List() const {
  if (!options_.devices.empty()) return options_.devices;
  std::set<Device> devices;
  for (const auto& [name, map] : options_.device_maps) {
    for (const auto& [ours, theirs] : map) devices.insert(ours);
  }
  const std::shared_ptr<const MemberSnapshot> group = workers_.snapshot();
  for (const MemberPtr& member : group->by_id()) {
    const std::shared_ptr<const DeviceInfo> info = PublishedBy(*member);
    if (info == nullptr) continue;
    const auto map = info->maps.find(workers_.self().name);
    if (map == info->maps.end()) continue;
    for (const auto& [theirs, ours] : map->second) devices.insert(ours);
  }
  std::vector<Device> result;
  for (const Device& device : devices) {
    if (device.type != CpuDevice().type) result.push_back(device);
  }
  return result;
}

std::vector<int> DeviceRouter::Gpus() {
  const std::shared_ptr<const MemberSnapshot> group = workers_.snapshot();
  {
    MutexLock lock(mutex_);
    if (listed_ == group) return gpus_;
  }
  std::vector<int> gpus;
  for (const Device& device : List()) {
    const bool is_gpu = device.type == kGpuDeviceType;
    if (is_gpu && devices_->Check(device).ok()) gpus.push_back(device.index);
  }
  MutexLock lock(mutex_);
  listed_ = group;
  gpus_ = gpus;
  return gpus;
}

void DeviceRouter::AddStreams(StreamSet& streams) {
  if (devices_ == nullptr || devices_->gpu_streams() == nullptr) return;
  for (const int gpu : Gpus()) {
    if (streams.Has(gpu)) continue;
    const absl::StatusOr<StreamSet> next = devices_->gpu_streams()->Next({gpu});
    if (next.ok()) streams.Set(next->On(gpu));
  }
}

}  // namespace reprise

// Which device of one worker stands for which of another: as data. Nothing here
// touches a device.
//
// A worker tells for each peer where tensors that it sends there shall arrive.
// Replies take the way back, so who answers needs the inverse of its caller's
// map: that is computed from what the caller published, by each for itself.

#ifndef REPRISE_AGENT_DEVICE_DEVICE_MAP_H_
#define REPRISE_AGENT_DEVICE_DEVICE_MAP_H_

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/device/device.h"

namespace reprise {

// Ours -> theirs.
using DeviceMap = std::map<Device, Device>;

// What a worker publishes of its devices.
struct DeviceInfo {
  std::map<std::string, DeviceMap> maps;  // by the other worker's name
  std::vector<Device> devices;            // may be used; empty: not restricted
  int count = -1;  // of accelerators that there are; -1: not known

  bool empty() const { return maps.empty() && devices.empty() && count < 0; }
  friend bool operator==(const DeviceInfo&, const DeviceInfo&) = default;
};

// "cuda:1". INVALID_ARGUMENT for anything else.
absl::StatusOr<Device> ParseDevice(std::string_view text);

// One line of text, and back.
std::string Format(const DeviceInfo& info);
absl::StatusOr<DeviceInfo> ParseDeviceInfo(std::string_view text);

// INVALID_ARGUMENT with PyTorch's text ("Node w0 has ...") unless the maps of
// all workers, by name, are sound: one to one, of devices that there are.
// Workers that are not there may be mentioned: they may join later.
absl::Status ValidateDevices(const std::map<std::string, DeviceInfo>& workers);

// {their device -> ours}. One to one, as `ValidateDevices` demands.
DeviceMap Reverse(const DeviceMap& map);

}  // namespace reprise

#endif  // REPRISE_AGENT_DEVICE_DEVICE_MAP_H_

// Maps between the devices of two workers, as data: nothing here touches a
// device, and every function may be called on any thread.
//
// A worker publishes, for each peer, where tensors that it sends to the peer
// shall arrive. A reply takes the way back, so the peer needs the inverse of
// its caller's map; each worker computes it from what the other has published.

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

// From our devices to those of the other worker.
using DeviceMap = std::map<Device, Device>;

// The part of a worker's options that it publishes.
struct DeviceInfo {
  std::map<std::string, DeviceMap> maps;  // by the other worker's name
  std::vector<Device> devices;            // that may be used; empty: all
  int count = -1;                         // of its accelerators; -1: not known

  bool empty() const { return maps.empty() && devices.empty() && count < 0; }
  friend bool operator==(const DeviceInfo&, const DeviceInfo&) = default;
};

// "cuda:1". INVALID_ARGUMENT for anything else.
absl::StatusOr<Device> ParseDevice(std::string_view text);

// `info` as one line of text, and back.
std::string Format(const DeviceInfo& info);
absl::StatusOr<DeviceInfo> ParseDeviceInfo(std::string_view text);

// INVALID_ARGUMENT with PyTorch's text ("Node w0 has ...") unless the maps of
// all workers, by name, are one to one and between devices that exist. They
// may name workers that are not there: those may join later.
absl::Status ValidateDevices(const std::map<std::string, DeviceInfo>& workers);

// From their devices to ours. `map` must be one to one, as `ValidateDevices`
// demands.
DeviceMap Reverse(const DeviceMap& map);

}  // namespace reprise

#endif  // REPRISE_AGENT_DEVICE_DEVICE_MAP_H_

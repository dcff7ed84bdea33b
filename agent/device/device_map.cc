#include "agent/device/device_map.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "agent/worker_info.h"

namespace reprise {
namespace {

constexpr size_t kMaxDeviceText = 32;

std::string ToText(const std::vector<Device>& devices) {
  return absl::StrCat("[",
                      absl::StrJoin(devices, ", ",
                                    [](std::string* out, const Device& device) {
                                      absl::StrAppend(out, device.ToString());
                                    }),
                      "]");
}

std::string ToText(const DeviceMap& map) {
  return absl::StrCat("{",
                      absl::StrJoin(map, ", ",
                                    [](std::string* out, const auto& entry) {
                                      absl::StrAppend(
                                          out, entry.first.ToString(), ": ",
                                          entry.second.ToString());
                                    }),
                      "}");
}

template <typename... Parts>
absl::Status Wrong(const std::string& node, const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat("Node ", node, " ", parts...));
}

bool AreUnique(const std::vector<Device>& devices) {
  return std::set<Device>(devices.begin(), devices.end()).size() ==
         devices.size();
}

bool AreAmong(const std::vector<Device>& some,
              const std::vector<Device>& devices) {
  return std::all_of(some.begin(), some.end(), [&](const Device& device) {
    return std::find(devices.begin(), devices.end(), device) != devices.end();
  });
}

bool AreValid(const std::vector<Device>& devices, int count) {
  return std::all_of(devices.begin(), devices.end(), [&](const Device& device) {
    return device.index >= 0 &&
           (device.type == "cpu" || count < 0 || device.index < count);
  });
}

absl::Status ValidateMap(const std::string& node, const DeviceInfo& source,
                         const std::string& target_name, const DeviceMap& map,
                         const DeviceInfo* target) {
  std::vector<Device> from;
  std::vector<Device> to;
  for (const auto& [key, value] : map) {
    from.push_back(key);
    to.push_back(value);
  }
  const std::string detail = absl::StrCat(" device map for ", target_name,
                                          "\ndevice map = ", ToText(map));
  if (!AreUnique(to)) {
    return Wrong(node, "has duplicated target devices in its", detail);
  }
  if (!source.devices.empty()) {
    if (!AreAmong(from, source.devices)) {
      return Wrong(node, "has unexpected source devices in its", detail,
                   "\ndevices = ", ToText(source.devices));
    }
  } else if (!AreValid(from, source.count)) {
    return Wrong(node, "has source devices with invalid indices in its", detail,
                 "\ndevice count = ", source.count);
  }
  if (target == nullptr) {
    return AreValid(to, -1)
               ? absl::OkStatus()
               : Wrong(node, "has target devices with invalid indices in its",
                       detail);
  }
  if (!target->devices.empty()) {
    if (!AreAmong(to, target->devices)) {
      return Wrong(node, "has unexpected target devices in its", detail,
                   "\ndevices = ", ToText(target->devices));
    }
  } else if (!AreValid(to, target->count)) {
    return Wrong(node, "has target devices with invalid indices in its", detail,
                 "\ndevice count = ", target->count);
  }
  return absl::OkStatus();
}

absl::Status Unreadable(std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("the record of a worker's devices cannot be read: ",
                   absl::string_view(what.data(), what.size())));
}

}  // namespace

absl::StatusOr<Device> ParseDevice(std::string_view text) {
  const size_t colon = text.find(':');
  Device device;
  if (text.size() > kMaxDeviceText || colon == 0 || colon == text.npos) {
    return Unreadable("a device must be like cuda:0");
  }
  device.type = std::string(text.substr(0, colon));
  const std::string_view index = text.substr(colon + 1);
  if (!std::all_of(device.type.begin(), device.type.end(),
                   [](char c) { return c >= 'a' && c <= 'z'; }) ||
      !absl::SimpleAtoi(absl::string_view(index.data(), index.size()),
                        &device.index)) {
    return Unreadable("a device must be like cuda:0");
  }
  return device;
}

std::string Format(const DeviceInfo& info) {
  std::string text = absl::StrCat(info.count, ";");
  for (const Device& device : info.devices) {
    absl::StrAppend(&text, device.ToString(), ",");
  }
  for (const auto& [name, map] : info.maps) {
    absl::StrAppend(&text, ";", name, "=");
    for (const auto& [ours, theirs] : map) {
      absl::StrAppend(&text, ours.ToString(), ">", theirs.ToString(), ",");
    }
  }
  return text;
}

absl::StatusOr<DeviceInfo> ParseDeviceInfo(std::string_view text) {
  const std::vector<std::string> parts =
      absl::StrSplit(absl::string_view(text.data(), text.size()), ';');
  DeviceInfo info;
  if (parts.size() < 2 || !absl::SimpleAtoi(parts[0], &info.count)) {
    return Unreadable("no count of devices");
  }
  for (const absl::string_view item :
       absl::StrSplit(parts[1], ',', absl::SkipEmpty())) {
    absl::StatusOr<Device> device =
        ParseDevice(std::string_view(item.data(), item.size()));
    if (!device.ok()) return device.status();
    info.devices.push_back(*std::move(device));
  }
  for (size_t i = 2; i < parts.size(); ++i) {
    const std::pair<std::string, std::string> map =
        absl::StrSplit(parts[i], absl::MaxSplits('=', 1));
    if (!IsWorkerName(map.first)) return Unreadable("a map for no worker");
    DeviceMap& devices = info.maps[map.first];
    for (const absl::string_view item :
         absl::StrSplit(map.second, ',', absl::SkipEmpty())) {
      const std::pair<std::string, std::string> entry =
          absl::StrSplit(item, absl::MaxSplits('>', 1));
      absl::StatusOr<Device> ours = ParseDevice(entry.first);
      if (!ours.ok()) return ours.status();
      absl::StatusOr<Device> theirs = ParseDevice(entry.second);
      if (!theirs.ok()) return theirs.status();
      devices[*std::move(ours)] = *std::move(theirs);
    }
  }
  return info;
}

absl::Status ValidateDevices(const std::map<std::string, DeviceInfo>& workers) {
  for (const auto& [node, info] : workers) {
    if (!AreUnique(info.devices)) {
      return Wrong(node,
                   "has duplicated devices\ndevices = ", ToText(info.devices));
    }
    if (!AreValid(info.devices, info.count)) {
      return Wrong(node, "has devices with invalid indices\ndevices = ",
                   ToText(info.devices), "\ndevice count = ", info.count);
    }
    for (const auto& [target_name, map] : info.maps) {
      const auto target = workers.find(target_name);
      absl::Status status =
          ValidateMap(node, info, target_name, map,
                      target == workers.end() ? nullptr : &target->second);
      if (!status.ok()) return status;
    }
  }
  return absl::OkStatus();
}

DeviceMap Reverse(const DeviceMap& map) {
  DeviceMap reversed;
  for (const auto& [ours, theirs] : map) reversed[theirs] = ours;
  return reversed;
}

}  // namespace reprise

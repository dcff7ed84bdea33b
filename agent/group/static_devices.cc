#include "agent/group/static_devices.h"

#include <map>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "glog/logging.h"

namespace reprise {
namespace {

std::string DevicesKey(const std::string& name) {
  return absl::StrCat("reprise/devices/", name);
}

// NOT_FOUND when this run of the worker has published nothing that can be read.
absl::StatusOr<DeviceInfo> ReadOf(StoreClient& store, const std::string& name,
                                  const std::string& instance,
                                  absl::Time deadline) {
  const absl::StatusOr<std::string> text =
      store.TryGet(DevicesKey(name), deadline);
  if (!text.ok()) return text.status();
  const std::pair<std::string, std::string> parts =
      absl::StrSplit(*text, absl::MaxSplits(' ', 1));
  if (parts.first != instance) return absl::NotFoundError("an earlier run");
  absl::StatusOr<DeviceInfo> info = ParseDeviceInfo(parts.second);
  if (info.ok()) return info;
  LOG(WARNING) << "what " << name
               << " has published of its devices is left out: "
               << info.status().message();
  return absl::NotFoundError("unreadable");
}

// In a static group nobody comes later.
absl::Status CheckNames(const std::map<std::string, DeviceInfo>& all,
                        const WorkerDirectory& workers) {
  for (const auto& [node, info] : all) {
    for (const auto& [target, map] : info.maps) {
      if (workers.Find(target) != nullptr) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          "Node ", node, " has invalid target node names in its device maps\n",
          "device maps = {", target, ", ...}\nnode names = [",
          absl::StrJoin(workers.workers(), ", ",
                        [](std::string* out, const WorkerInfo& worker) {
                          out->append(worker.name);
                        }),
          "]"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status PublishDevices(StoreClient& store, const std::string& name,
                            const std::string& instance, const DeviceInfo& own,
                            absl::Time deadline) {
  if (own.empty()) return absl::OkStatus();
  return store.Set(DevicesKey(name), absl::StrCat(instance, " ", Format(own)),
                   deadline);
}

absl::Status KeepDevices(StoreClient& store, const std::string& name,
                         const std::string& instance, const DeviceInfo& own,
                         absl::Time deadline) {
  if (own.empty()) return absl::OkStatus();
  const absl::Status present =
      store.TryGet(DevicesKey(name), deadline).status();
  return absl::IsNotFound(present)
             ? PublishDevices(store, name, instance, own, deadline)
             : present;
}

absl::StatusOr<DeviceRouter::Published> ReadDevices(
    StoreClient& store, const WorkerDirectory& workers, const DeviceInfo& own,
    const std::vector<std::string>& instances, absl::Time deadline) {
  DeviceRouter::Published published;
  if (own.empty()) return published;
  std::map<std::string, DeviceInfo> all = {{workers.self().name, own}};
  for (const WorkerInfo& worker : workers.workers()) {
    const std::string& instance = instances[worker.id];
    if (instance.empty() || worker == workers.self()) continue;
    absl::StatusOr<DeviceInfo> info =
        ReadOf(store, worker.name, instance, deadline);
    if (absl::IsNotFound(info.status())) continue;
    if (!info.ok()) return info.status();
    all[worker.name] = *std::move(info);
  }
  absl::Status status = CheckNames(all, workers);
  if (status.ok()) status = ValidateDevices(all);
  if (!status.ok()) return status;
  for (auto& [name, info] : all) {
    published[name] = std::make_shared<const DeviceInfo>(std::move(info));
  }
  return published;
}

}  // namespace reprise

#include "sim/disk/sim_disk.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/disk/file_name.h"
#include "sim/random.h"
#include "sim/world/race_annotations.h"

namespace reprise {
namespace {

constexpr size_t kSectorBytes = 512;

// How long an operation takes at least, and by how much that varies: a read or
// a write reaches the kernel's memory, a sync the medium.
constexpr int64_t kCacheMinNs = 2'000;
constexpr uint64_t kCacheSpreadNs = 20'000;
constexpr int64_t kMediumMinNs = 100'000;
constexpr uint64_t kMediumSpreadNs = 3'000'000;

absl::Status NoSuchFile(std::string_view name) {
  return absl::NotFoundError(
      absl::StrCat("disk: no file '", std::string(name), "'"));
}

}  // namespace

// Every operation takes effect at one instant, in the middle of the time that
// it takes, except for a write, which takes effect in two halves.
class SimDisk final : public Disk {
 public:
  SimDisk(SimDisks& disks, Node& node)
      : disks_(disks),
        world_(disks.world_),
        node_(node),
        place_(world_.decisions().PlaceAt("disk")) {}

  absl::StatusOr<std::string> Read(std::string_view name) override {
    if (absl::Status status = CheckFileName(name); !status.ok()) return status;
    const InSimulator in;
    Spend(kCacheMinNs, kCacheSpreadNs);
    const auto& names = machine().names;
    const auto found = names.find(name);
    if (found == names.end()) return NoSuchFile(name);
    return found->second->content;
  }

  absl::Status Write(std::string_view name, std::string_view bytes) override {
    return WriteTo("write", name, /*truncates=*/true, bytes);
  }
  absl::Status Append(std::string_view name, std::string_view bytes) override {
    return WriteTo("append", name, /*truncates=*/false, bytes);
  }

  absl::Status Sync(std::string_view name) override {
    if (absl::Status status = CheckFileName(name); !status.ok()) return status;
    const InSimulator in;
    Spend(kMediumMinNs, kMediumSpreadNs);
    Record("sync", name);
    SimDisks::Machine& disk = machine();
    const auto found = disk.names.find(name);
    if (found == disk.names.end()) return NoSuchFile(name);
    SimDisks::File& file = *found->second;
    if (file.is_dirty && disk.next_sync_fails) {
      disk.next_sync_fails = false;
      file.is_dirty = false;
      file.is_lost = true;
      disks_.Injected(FaultKind::kDiskSyncFails, node_.rank);
      return absl::UnavailableError(absl::StrCat(
          "disk: cannot sync '", std::string(name), "': Input/output error"));
    }
    if (!file.is_lost) file.durable = file.content;
    file.is_dirty = false;
    Spend(kCacheMinNs, kCacheSpreadNs);
    return absl::OkStatus();
  }

  absl::Status Rename(std::string_view from, std::string_view to) override {
    absl::Status status = CheckFileName(from);
    if (status.ok()) status = CheckFileName(to);
    return status.ok() ? Change("rename", from, to) : status;
  }

  absl::Status Remove(std::string_view name) override {
    absl::Status status = CheckFileName(name);
    return status.ok() ? Change("remove", name, "") : status;
  }

  absl::Status SyncNames() override {
    const InSimulator in;
    Spend(kMediumMinNs, kMediumSpreadNs);
    Record("sync", "the names");
    SimDisks::Machine& disk = machine();
    disk.durable_names = disk.names;
    disk.changes.clear();
    Spend(kCacheMinNs, kCacheSpreadNs);
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<std::string>> List() override {
    const InSimulator in;
    Spend(kCacheMinNs, kCacheSpreadNs);
    std::vector<std::string> list;
    for (const auto& [name, file] : machine().names) list.push_back(name);
    return list;
  }

 private:
  SimDisks::Machine& machine() { return disks_.machines_[node_.rank]; }

  void Record(std::string_view operation, std::string_view name) {
    const std::string what =
        absl::StrCat(std::string(operation), " ", std::string(name));
    world_.Record(&node_, {.kind = EventKind::kFile, .text = what});
  }

  void Spend(int64_t min_ns, uint64_t spread_ns) {
    SimDisks::Machine& disk = machine();
    int64_t extra_ns = 0;
    if (world_.now_ns() < disk.slow_until_ns) {
      extra_ns = disk.slow_ns;
      disks_.Injected(FaultKind::kDiskSlow, node_.rank);
    }
    Site& site = world_.scheduler().SiteHere(node_, place_);
    site.Visit();
    const int64_t end_ns = world_.now_ns() + min_ns + extra_ns +
                           static_cast<int64_t>(Below(
                               site.Bits(DecisionKind::kLatency), spread_ns));
    world_.scheduler().Block(site, {"waits for", "its disk"}, end_ns);
  }

  absl::Status WriteTo(std::string_view operation, std::string_view name,
                       bool truncates, std::string_view bytes) {
    if (absl::Status status = CheckFileName(name); !status.ok()) return status;
    const InSimulator in;
    Spend(kCacheMinNs, kCacheSpreadNs);
    Record(operation, name);
    SimDisks::Machine& disk = machine();
    const auto found = disk.names.find(name);
    std::shared_ptr<SimDisks::File> file;
    if (found != disk.names.end()) {
      file = found->second;
    } else {
      file = std::make_shared<SimDisks::File>();
      const SimDisks::NameChange created = {"", std::string(name), file};
      SimDisks::Apply(created, disk.names);
      disk.changes.push_back(created);
    }
    if (truncates) {
      file->content.clear();
      file->is_lost = false;
    }
    file->is_dirty = true;
    const bool is_full = world_.now_ns() < disk.full_until_ns;
    const size_t half = bytes.size() / 2;
    file->content.append(bytes.data(), half);
    if (is_full && !bytes.empty()) {
      disks_.Injected(FaultKind::kDiskFull, node_.rank);
      return absl::ResourceExhaustedError(
          absl::StrCat("disk: cannot write '", std::string(name),
                       "': No space left on device"));
    }
    Spend(kCacheMinNs, kCacheSpreadNs);
    file->content.append(bytes.data() + half, bytes.size() - half);
    file->is_dirty = true;  // another thread may have synced the first half
    return absl::OkStatus();
  }

  absl::Status Change(std::string_view operation, std::string_view from,
                      std::string_view to) {
    const InSimulator in;
    Spend(kCacheMinNs, kCacheSpreadNs);
    Record(operation, from);
    SimDisks::Machine& disk = machine();
    const auto found = disk.names.find(from);
    if (found == disk.names.end()) return NoSuchFile(from);
    const SimDisks::NameChange change = {std::string(from), std::string(to),
                                         found->second};
    SimDisks::Apply(change, disk.names);
    disk.changes.push_back(change);
    Spend(kCacheMinNs, kCacheSpreadNs);
    return absl::OkStatus();
  }

  SimDisks& disks_;
  World& world_;
  Node& node_;
  const Place& place_;
};

SimDisks::SimDisks(World& world) : world_(world) {
  world_.OnCrash([this](Node& node) {
    if (node.death == NodeDeath::kPowerCut) LosePower(node.rank);
  });
}

std::unique_ptr<Disk> SimDisks::Connect(Node& node) {
  return std::make_unique<SimDisk>(*this, node);
}

void SimDisks::SetFull(int32_t rank, int64_t until_ns) {
  machines_[rank].full_until_ns = until_ns;
}

void SimDisks::SetSlow(int32_t rank, int64_t delay_ns, int64_t until_ns) {
  machines_[rank].slow_ns = delay_ns;
  machines_[rank].slow_until_ns = until_ns;
}

void SimDisks::FailNextSync(int32_t rank) {
  machines_[rank].next_sync_fails = true;
}

void SimDisks::Apply(const NameChange& change, Names& names) {
  if (!change.from.empty()) names.erase(change.from);
  if (!change.to.empty()) names[change.to] = change.file;
}

void SimDisks::LosePower(int32_t rank) {
  const auto found = machines_.find(rank);
  if (found == machines_.end()) return;
  Machine& disk = found->second;
  const uint64_t draws = HashCombine(
      HashCombine(world_.decisions().seed(), HashBytes("power cut")),
      HashCombine(static_cast<uint64_t>(rank), ++disk.power_cuts));
  uint64_t count = 0;
  const size_t kept = Below(Draw(draws, 0, count++), disk.changes.size() + 1);
  for (size_t i = 0; i < kept; ++i) Apply(disk.changes[i], disk.durable_names);
  disk.changes.clear();
  disk.names = disk.durable_names;
  for (const auto& [name, file] : disk.names)
    Tear(*file, Draw(draws, 0, count++));
}

void SimDisks::Tear(File& file, uint64_t draws) {
  const std::string& written = file.is_dirty ? file.content : file.durable;
  std::string torn = file.durable;
  const auto draw = [draws](size_t number, size_t below) {
    return Below(Draw(draws, 0, number), below);
  };
  if (draw(0, 2) == 0) torn.resize(written.size());  // zeros behind the old end
  for (size_t at = 0; at < torn.size(); at += kSectorBytes) {
    if (at >= written.size() || draw(1 + at / kSectorBytes, 2) == 0) continue;
    const size_t count =
        std::min({kSectorBytes, torn.size() - at, written.size() - at});
    torn.replace(at, count, written, at, count);
  }
  file.content = torn;
  file.durable = std::move(torn);
  file.is_dirty = false;
  file.is_lost = false;
}

}  // namespace reprise

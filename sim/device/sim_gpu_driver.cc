// Devices and memory. Streams and events are in sim_gpu_work.cc, and what
// processes share in sim_gpu_sharing.cc.

#include "sim/device/sim_gpu_driver.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "sim/world/race_annotations.h"

namespace reprise {
namespace {

constexpr uintptr_t kPageBytes = 4096;

uintptr_t KeyOf(const void* address) {
  return reinterpret_cast<uintptr_t>(address);
}

}  // namespace

SimGpuDriver::SimGpuDriver(SimGpus& gpus, Node& node, int host,
                           std::vector<PhysicalGpu*> devices)
    : gpus_(gpus),
      node_(node),
      host_(host),
      devices_(std::move(devices)),
      call_(world().decisions().PlaceAt("gpu call")),
      wait_(world().decisions().PlaceAt("gpu wait")),
      draw_(world().decisions().PlaceAt("gpu draw")),
      is_lost_(devices_.size(), false) {
  for (int device = 0; device < device_count(); ++device) {
    const GpuStream stream{device, GpuStream::kDefault};
    streams_[{device, stream.handle}] = &gpus_.MakeStream(*this, stream);
  }
}

void SimGpuDriver::Enter() {
  Scheduler& scheduler = world().scheduler();
  if (thread_ != nullptr && scheduler.current() == thread_) {
    gpus_.Violated("gpu-callback",
                   absl::StrCat("a callback of a stream of ", node_.label,
                                " calls the driver"));
  }
  scheduler.MaybePreempt(SiteHere(call_));
}

void SimGpuDriver::Take(int64_t duration_ns) {
  Scheduler& scheduler = world().scheduler();
  if (scheduler.current() == nullptr) return;
  scheduler.Block(WaitSite(), {"waits for", "the GPU's driver"},
                  world().now_ns() + duration_ns);
}

bool SimGpuDriver::DrawHalf() {
  Site& site = SiteHere(draw_);
  site.Visit();
  return (site.Bits(DecisionKind::kLatency) & 1) != 0;
}

absl::Status SimGpuDriver::CheckDevice(int device) {
  if (device < 0 || device >= device_count()) {
    return absl::InternalError(
        absl::StrCat("gpu: there is no device ", device));
  }
  if (!is_lost_[static_cast<size_t>(device)]) return absl::OkStatus();
  gpus_.Injected(FaultKind::kGpuLost);
  return LostError(device);
}

absl::Status SimGpuDriver::LostError(int device) {
  return absl::UnavailableError(
      absl::StrCat("gpu: device ", device, " is lost"));
}

bool SimGpuDriver::CanReadPeer(int device, const std::string& uuid) {
  const InSimulator in;
  Enter();
  if (device < 0 || device >= device_count()) return false;
  if (properties(device).uuid == uuid) return true;
  for (const auto& [key, gpu] : gpus_.gpus_) {
    if (gpu->host != host_ || gpu->properties.uuid != uuid) continue;
    return !gpus_.Strikes(gpus_.faults_[node_.rank].no_peer_until_ns,
                          FaultKind::kGpuNoPeer);
  }
  return false;
}

absl::StatusOr<void*> SimGpuDriver::Allocate(int device, size_t num_bytes) {
  const InSimulator in;
  Enter();
  Take(options().allocate_ns);
  if (auto status = CheckDevice(device); !status.ok()) return status;
  if (num_bytes == 0) {
    return absl::InternalError("gpu: an allocation of 0 bytes");
  }
  std::shared_ptr<SimGpuMemory> memory;
  if (!gpus_.Strikes(gpus_.faults_[node_.rank].no_memory_until_ns,
                     FaultKind::kGpuNoMemory)) {
    memory = gpus_.memories_.Allocate(*devices_[static_cast<size_t>(device)],
                                      node_, device, num_bytes, DrawHalf());
  }
  if (memory == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "gpu: device ", device, " has no memory for ", num_bytes, " bytes"));
  }
  ++gpus_.num_allocations_;
  return memory->base;
}

void SimGpuDriver::Free(int device, void* memory) {
  const InSimulator in;
  Enter();
  const auto found = gpus_.memories_.Find(memory);
  if (found == nullptr || found->base != memory || found->owner != &node_ ||
      found->gpu == nullptr || found->device != device) {
    gpus_.Violated("gpu-memory",
                   absl::StrCat(gpus_.ThreadOf(node_),
                                " frees what is no allocation of device ",
                                device, ": ", gpus_.NameOf(KeyOf(memory))));
    return;
  }
  if (found->is_freed) {
    gpus_.Violated("gpu-freed", absl::StrCat(gpus_.ThreadOf(node_), " frees ",
                                             found->name, " a second time"));
    return;
  }
  AwaitUses(*found);
  if (found->is_freed) return;  // by another thread meanwhile
  gpus_.CheckUnused(node_, "frees", *found, /*only_own=*/false);
  gpus_.log_.Forget(KeyOf(found->base), found->num_bytes);
  gpus_.memories_.Free(found);
  --gpus_.num_allocations_;
}

absl::StatusOr<void*> SimGpuDriver::AllocatePinned(size_t num_bytes) {
  const InSimulator in;
  Enter();
  Take(options().allocate_ns);
  if (num_bytes == 0) {
    return absl::InternalError("gpu: an allocation of 0 bytes");
  }
  if (gpus_.Strikes(gpus_.faults_[node_.rank].no_memory_until_ns,
                    FaultKind::kGpuNoMemory)) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "gpu: the host has no pinned memory for ", num_bytes, " bytes"));
  }
  const auto memory = gpus_.memories_.AllocatePinned(node_, num_bytes);
  host_memory_[KeyOf(memory->base)] = memory;
  ++gpus_.num_allocations_;
  return memory->base;
}

void SimGpuDriver::FreePinned(void* memory) {
  const InSimulator in;
  Enter();
  FreeHost(memory, "frees", /*is_registered=*/false);
}

absl::Status SimGpuDriver::RegisterHost(void* memory, size_t num_bytes) {
  const InSimulator in;
  Enter();
  Take(options().allocate_ns);
  if (num_bytes == 0 || KeyOf(memory) % kPageBytes != 0 ||
      num_bytes % kPageBytes != 0) {
    return absl::InternalError("gpu: only whole pages can be registered");
  }
  if (gpus_.Strikes(gpus_.faults_[node_.rank].no_memory_until_ns,
                    FaultKind::kGpuNoMemory)) {
    return absl::ResourceExhaustedError(
        absl::StrCat("gpu: the host cannot register ", num_bytes, " bytes"));
  }
  const auto next = host_memory_.lower_bound(KeyOf(memory) + num_bytes);
  if (next != host_memory_.begin()) {
    const SimGpuMemory& before = *std::prev(next)->second;
    if (KeyOf(before.base) + before.num_bytes > KeyOf(memory)) {
      return absl::InternalError("gpu: the memory is registered already");
    }
  }
  auto registered = std::make_shared<SimGpuMemory>();
  registered->id = gpus_.memories_.NextId();
  registered->owner = &node_;
  registered->base = static_cast<char*>(memory);
  registered->num_bytes = num_bytes;
  registered->name =
      absl::StrCat("registered memory ", registered->id, " of ", node_.label);
  host_memory_[KeyOf(memory)] = std::move(registered);
  ++gpus_.num_allocations_;
  return absl::OkStatus();
}

void SimGpuDriver::UnregisterHost(void* memory) {
  const InSimulator in;
  Enter();
  FreeHost(memory, "unregisters", /*is_registered=*/true);
}

void SimGpuDriver::FreeHost(void* memory, std::string_view verb,
                            bool is_registered) {
  const auto found = host_memory_.find(KeyOf(memory));
  if (found == host_memory_.end() ||
      (found->second->storage == nullptr) != is_registered) {
    gpus_.Violated(
        "gpu-memory",
        absl::StrCat(gpus_.ThreadOf(node_), " ", std::string(verb),
                     " what is no such memory: ", gpus_.NameOf(KeyOf(memory))));
    return;
  }
  const std::shared_ptr<SimGpuMemory> held = found->second;
  gpus_.CheckUnused(node_, verb, *held, /*only_own=*/true);
  gpus_.log_.Forget(KeyOf(held->base), held->num_bytes);
  host_memory_.erase(found);
  if (!is_registered) gpus_.memories_.Free(held);
  --gpus_.num_allocations_;
}

absl::StatusOr<GpuAllocation> SimGpuDriver::FindAllocation(const void* memory) {
  const InSimulator in;
  Enter();
  const auto owned = gpus_.memories_.Find(memory);
  if (owned != nullptr && owned->owner == &node_ && owned->gpu != nullptr &&
      !owned->is_freed) {
    return GpuAllocation{owned->device, owned->base, owned->num_bytes,
                         owned->id, options().may_be_exported};
  }
  const auto opened = FindRange(opened_, memory);
  if (opened != opened_.end()) {
    const SimGpuMemory& peers = *opened->second->memory;
    return GpuAllocation{opened->second->counts.begin()->first, peers.base,
                         peers.num_bytes, peers.id, /*may_be_exported=*/false};
  }
  return absl::NotFoundError("gpu: the pointer belongs to no device");
}

absl::StatusOr<std::shared_ptr<SimGpuMemory>> SimGpuDriver::Locate(
    const void* address, size_t num_bytes, std::string_view what) {
  std::shared_ptr<SimGpuMemory> memory;
  if (const auto host = FindRange(host_memory_, address);
      host != host_memory_.end()) {
    memory = host->second;
  } else {
    memory = gpus_.memories_.Find(address);
    if (memory == nullptr || memory->owner != &node_) {
      const auto opened = FindRange(opened_, address);
      if (opened != opened_.end()) {
        memory = opened->second->memory;
      } else if (memory != nullptr && memory->gpu != nullptr) {
        gpus_.Violated(
            "gpu-memory",
            absl::StrCat(std::string(what), " uses ", memory->name, ", which ",
                         node_.label, " has not opened"));
        return absl::InternalError("gpu: memory of another process");
      } else {
        // To this process, pinned memory of another one is any memory.
        return nullptr;
      }
    }
  }
  if (memory->is_gone) {
    return absl::InternalError(
        absl::StrCat("gpu: ", memory->name, " is gone with its process"));
  }
  if (memory->is_freed) {
    gpus_.Violated("gpu-freed",
                   absl::StrCat(std::string(what), " uses ", memory->name,
                                " after its owner freed it"));
    return absl::InternalError("gpu: freed memory");
  }
  if (num_bytes > memory->num_bytes - (KeyOf(address) - KeyOf(memory->base))) {
    gpus_.Violated("gpu-memory",
                   absl::StrCat(std::string(what),
                                " reaches behind the end of ", memory->name));
    return absl::InternalError("gpu: the range ends behind its memory");
  }
  memory->Fill(static_cast<const char*>(address), num_bytes);
  return memory;
}

}  // namespace reprise

#include "sim/device/sim_gpus.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "sim/device/sim_gpu_driver.h"

namespace reprise {
namespace {

std::string Uuid(int host, int index) {
  const uint64_t high = Mix((static_cast<uint64_t>(host) << 32) +
                            static_cast<uint64_t>(index) + 1);
  const uint64_t low = Mix(high);
  return absl::StrFormat("%08x-%04x-%04x-%04x-%012x", high >> 32,
                         (high >> 16) & 0xffff, high & 0xffff, low >> 48,
                         low & 0xffffffffffff);
}

}  // namespace

SimGpus::SimGpus(World& world, SimGpuOptions options)
    : world_(world), options_(options) {
  world_.OnCrash([this](Node& node) { NodeCrashed(node); });
}

SimGpus::~SimGpus() = default;

PhysicalGpu& SimGpus::GpuAt(int host, int index) {
  std::unique_ptr<PhysicalGpu>& gpu = gpus_[{host, index}];
  if (gpu == nullptr) {
    gpu = std::make_unique<PhysicalGpu>();
    gpu->host = host;
    gpu->properties = {.name = "Simulated GPU",
                       .uuid = Uuid(host, index),
                       .pci_bus_id = absl::StrFormat("0000:%02x:00.0", index),
                       .memory_bytes = options_.memory_bytes};
  }
  return *gpu;
}

std::shared_ptr<GpuDriver> SimGpus::Connect(Node& node, int host,
                                            const std::vector<int>& gpus) {
  for (const auto& driver : drivers_) {
    if (&driver->node() == &node) return driver;
  }
  std::vector<PhysicalGpu*> devices;
  if (gpus.empty()) {
    for (int i = 0; i < options_.gpus_per_host; ++i) {
      devices.push_back(&GpuAt(host, i));
    }
  }
  for (const int index : gpus) devices.push_back(&GpuAt(host, index));
  drivers_.push_back(
      std::make_shared<SimGpuDriver>(*this, node, host, std::move(devices)));
  return drivers_.back();
}

SimGpuStream& SimGpus::MakeStream(SimGpuDriver& driver, GpuStream stream) {
  streams_.push_back(
      std::make_unique<SimGpuStream>(driver, stream, streams_.size()));
  return *streams_.back();
}

void SimGpus::NodeCrashed(Node& node) {
  for (const auto& driver : drivers_) {
    if (&driver->node() == &node) driver->Die();
  }
}

// --- What is reported ---

std::string SimGpus::ThreadOf(const Node& node) const {
  const Fiber* const fiber = world_.scheduler().current();
  return fiber != nullptr && fiber->node == &node
             ? absl::StrCat("thread ", fiber->label)
             : absl::StrCat("a thread of ", node.label);
}

std::string SimGpus::NameOf(uintptr_t address) const {
  const auto* const pointer = reinterpret_cast<const char*>(address);
  const std::shared_ptr<SimGpuMemory> memory = memories_.Find(pointer);
  if (memory == nullptr) return "memory of the host";
  return absl::StrCat("byte ", pointer - memory->base, " of ", memory->name);
}

void SimGpus::CheckStreamAccess(const SimGpuStream& stream,
                                std::string_view what, const void* memory,
                                size_t num_bytes, bool writes,
                                const VectorClock& clock) {
  const auto conflict =
      log_.Find(reinterpret_cast<uintptr_t>(memory), num_bytes, writes, clock);
  if (!conflict) return;
  const SimGpuAccess& earlier = conflict->earlier;
  const SimGpuStream& other = *streams_[earlier.timeline];
  const std::string event = other.RecordedAfter(earlier.epoch);
  Violated("gpu-race",
           absl::StrCat(
               std::string(what), writes ? " writes " : " reads ",
               NameOf(conflict->address), ", which ", *earlier.what,
               conflict->earlier_writes ? " writes" : " reads",
               ", and nothing orders the two. Missing: ", stream.name(),
               " must wait for ",
               event.empty() ? absl::StrCat("an event that is recorded on ",
                                            other.name(), " after that copy")
                             : absl::StrCat(event, ", which was recorded on ",
                                            other.name(), " after that copy")));
}

void SimGpus::CheckHostAccess(std::string_view what, const void* memory,
                              size_t num_bytes, bool writes) {
  const auto conflict = log_.Find(reinterpret_cast<uintptr_t>(memory),
                                  num_bytes, writes, host_clock_);
  if (!conflict) return;
  const SimGpuAccess& earlier = conflict->earlier;
  Violated("gpu-race",
           absl::StrCat(std::string(what), writes ? " writes " : " reads ",
                        NameOf(conflict->address), ", which ", *earlier.what,
                        conflict->earlier_writes ? " writes" : " reads",
                        ", and nothing orders the two. Missing: the host must "
                        "wait for ",
                        streams_[earlier.timeline]->name(),
                        ", or for an event or a callback behind that copy"));
}

void SimGpus::CheckUnused(const Node& node, std::string_view verb,
                          const SimGpuMemory& memory, bool only_own) {
  for (const auto& [timeline, use] : memory.uses) {
    const SimGpuStream& stream = *streams_[timeline];
    if (host_clock_.Includes(timeline, use.epoch)) continue;
    if (only_own && !stream.IsOf(node)) continue;
    Violated("gpu-freed",
             absl::StrCat(ThreadOf(node), " ", std::string(verb), " ",
                          memory.name, " while ", *use.what,
                          " may still use it. Missing: the host must wait for ",
                          stream.name(),
                          ", or for an event or a callback behind that copy"));
    return;
  }
}

// --- Threads that read and write memory ---

absl::StatusOr<std::string> SimGpus::Peek(const Node& node, const void* memory,
                                          size_t num_bytes) {
  for (const auto& driver : drivers_) {
    if (&driver->node() != &node) continue;
    if (auto place = driver->Locate(memory, num_bytes, ThreadOf(node));
        !place.ok()) {
      return place.status();
    }
  }
  HostReads(node, memory, num_bytes);
  return std::string(static_cast<const char*>(memory), num_bytes);
}

absl::Status SimGpus::Poke(const Node& node, void* memory,
                           std::string_view bytes) {
  for (const auto& driver : drivers_) {
    if (&driver->node() != &node) continue;
    if (auto place = driver->Locate(memory, bytes.size(), ThreadOf(node));
        !place.ok()) {
      return place.status();
    }
  }
  HostWrites(node, memory, bytes.size());
  std::memcpy(memory, bytes.data(), bytes.size());
  return absl::OkStatus();
}

void SimGpus::HostReads(const Node& node, const void* memory,
                        size_t num_bytes) {
  CheckHostAccess(ThreadOf(node), memory, num_bytes, /*writes=*/false);
}

void SimGpus::HostWrites(const Node& node, const void* memory,
                         size_t num_bytes) {
  CheckHostAccess(ThreadOf(node), memory, num_bytes, /*writes=*/true);
}

// --- Faults ---

bool SimGpus::Strikes(int64_t until_ns, FaultKind kind) {
  if (until_ns <= world_.now_ns()) return false;
  Injected(kind);
  return true;
}

void SimGpus::RefuseMemory(int32_t rank, int64_t until_ns) {
  faults_[rank].no_memory_until_ns = until_ns;
}

void SimGpus::FailNextCopy(int32_t rank) { ++faults_[rank].copies_to_fail; }

void SimGpus::StallStreams(int32_t rank, int64_t until_ns) {
  faults_[rank].stalled_until_ns = until_ns;
}

void SimGpus::LoseDevices(int32_t rank, int device) {
  for (const auto& driver : drivers_) {
    if (driver->node().rank != rank || !driver->node().alive) continue;
    driver->Lose(device);
  }
}

void SimGpus::RefusePeers(int32_t rank, int64_t until_ns) {
  faults_[rank].no_peer_until_ns = until_ns;
}

void SimGpus::RefuseSharing(int32_t rank, int64_t until_ns) {
  faults_[rank].no_sharing_until_ns = until_ns;
}

}  // namespace reprise

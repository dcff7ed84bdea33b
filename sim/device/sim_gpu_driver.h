// What one simulated process sees of the GPUs of its host. Its contract is that
// of agent/device/driver.h; sim_gpus.h says what is modelled and reported.

#ifndef REPRISE_SIM_DEVICE_SIM_GPU_DRIVER_H_
#define REPRISE_SIM_DEVICE_SIM_GPU_DRIVER_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/device/driver.h"
#include "sim/device/gpu_memory.h"
#include "sim/device/gpu_stream.h"
#include "sim/device/sim_gpus.h"

namespace reprise {

// Not thread-safe. Only the fibers of its node use what is virtual.
class SimGpuDriver final : public GpuDriver {
 public:
  SimGpuDriver(SimGpus& gpus, Node& node, int host,
               std::vector<PhysicalGpu*> devices);

  int device_count() const override {
    return static_cast<int>(devices_.size());
  }
  const GpuProperties& properties(int device) const override {
    return devices_[static_cast<size_t>(device)]->properties;
  }
  bool CanReadPeer(int device, const std::string& uuid) override;

  absl::StatusOr<void*> Allocate(int device, size_t num_bytes) override;
  void Free(int device, void* memory) override;
  absl::StatusOr<void*> AllocatePinned(size_t num_bytes) override;
  void FreePinned(void* memory) override;
  absl::Status RegisterHost(void* memory, size_t num_bytes) override;
  void UnregisterHost(void* memory) override;
  absl::StatusOr<GpuAllocation> FindAllocation(const void* memory) override;

  absl::StatusOr<GpuStream> CreateStream(int device) override;
  void DestroyStream(GpuStream stream) override;
  absl::Status Synchronize(GpuStream stream) override;
  absl::Status Copy(void* to, const void* from, size_t num_bytes,
                    GpuStream stream) override;
  absl::Status AddCallback(
      GpuStream stream,
      absl::AnyInvocable<void(absl::Status)> callback) override;

  absl::StatusOr<GpuEvent> CreateEvent(int device, bool is_shared) override;
  void DestroyEvent(GpuEvent event) override;
  absl::Status Record(GpuEvent event, GpuStream stream) override;
  absl::Status Wait(GpuStream stream, GpuEvent event) override;
  absl::StatusOr<bool> IsDone(GpuEvent event) override;
  absl::Status Synchronize(GpuEvent event) override;

  absl::StatusOr<std::string> ExportMemory(int device, void* base) override;
  absl::StatusOr<void*> OpenMemory(int device,
                                   const std::string& handle) override;
  void CloseMemory(int device, void* base) override;
  absl::StatusOr<std::string> ExportEvent(GpuEvent event) override;
  absl::StatusOr<GpuEvent> OpenEvent(int device,
                                     const std::string& handle) override;

  // The rest is for the streams and for `SimGpus`.
  World& world() { return gpus_.world_; }
  Node& node() { return node_; }
  const SimGpuOptions& options() const { return gpus_.options_; }
  Site& WaitSite() { return SiteHere(wait_); }

  int64_t StalledUntilNs();
  // Whether the copy fails by a fault; sets `error` then.
  bool TakesCopyFailure(const SimGpuWork& work, absl::Status& error);
  // Reports a change of what the copy reads that no stream made.
  void CheckSource(const SimGpuWork& work);
  // Runs the callback on the driver's thread, and tells the stream.
  void RunCallback(SimGpuStream& stream,
                   absl::AnyInvocable<void(absl::Status)> callback,
                   const absl::Status& status, const VectorClock& clock);

  // The memory in which a range lies that `what` uses; null for memory of the
  // host that the driver does not know. Reports a wrong use, which is an error.
  absl::StatusOr<std::shared_ptr<SimGpuMemory>> Locate(const void* address,
                                                       size_t num_bytes,
                                                       std::string_view what);
  void Lose(int device);  // -1: all
  void Die();

 private:
  Site& SiteHere(const Place& place) {
    return world().scheduler().SiteHere(node_, place);
  }

  struct Opened {
    std::shared_ptr<SimGpuMemory> memory;
    // For which devices it is open, and how often.
    std::map<int, int> counts;
    bool Contains(const void* address) const {
      return memory->Contains(address);
    }
  };
  struct KnownEvent {
    int device = 0;
    std::shared_ptr<SimGpuEvent> event;
  };
  struct Callback {
    SimGpuStream* stream;
    absl::AnyInvocable<void(absl::Status)> call;
    absl::Status status;
    VectorClock clock;
  };

  // Every call begins with an `InSimulator` and this.
  void Enter();
  absl::Status CheckDevice(int device);
  // For calls that take a while. The calling thread blocks.
  void Take(int64_t duration_ns);
  bool DrawHalf();
  static absl::Status LostError(int device);
  int64_t CopyNs(const SimGpuWork& work) const;
  // Sets the clock of the copy, and checks and notes what it touches.
  void NoteCopy(SimGpuStream& stream, SimGpuWork& work);
  absl::StatusOr<SimGpuStream*> StreamOf(GpuStream stream);
  absl::StatusOr<std::shared_ptr<SimGpuEvent>> EventOf(GpuEvent event);
  absl::StatusOr<std::shared_ptr<SimGpuRecord>> RecordToAwait(
      GpuEvent event, std::string_view who);
  void FreeHost(void* memory, std::string_view verb, bool is_registered);
  // Waits for the process's own work on the memory.
  void AwaitUses(const SimGpuMemory& memory);
  void Close(SimGpuMemory& memory);
  absl::Status CheckSharing(int device);
  void RunDriverThread();

  SimGpus& gpus_;
  Node& node_;
  const int host_;
  const std::vector<PhysicalGpu*> devices_;
  const Place& call_;
  const Place& wait_;
  const Place& draw_;
  std::vector<bool> is_lost_;  // by device
  std::map<std::pair<int, uintptr_t>, SimGpuStream*> streams_;
  std::map<uintptr_t, KnownEvent> events_;
  uintptr_t last_stream_ = 0;
  uintptr_t last_event_ = 0;
  // By their begin.
  std::map<uintptr_t, std::shared_ptr<SimGpuMemory>> host_memory_;
  std::map<uintptr_t, std::unique_ptr<Opened>> opened_;
  Fiber* thread_ = nullptr;  // runs the callbacks
  bool thread_waits_ = false;
  std::deque<Callback> callbacks_;
};

}  // namespace reprise

#endif  // REPRISE_SIM_DEVICE_SIM_GPU_DRIVER_H_

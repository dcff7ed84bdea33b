// Some of a driver's GPUs, under numbers of their own.
//
// The device i of this driver is the device `gpus[i]` of the driver beneath. So
// a worker that was given cuda:3 sees it as cuda:0, as it would with
// CUDA_VISIBLE_DEVICES=3, but the driver beneath still sees all GPUs. Two
// workers with different GPUs can therefore open each other's memory.
//
// A GPU may be in the list more than once. Its numbers then have the default
// stream in common and report one UUID; memory, streams and events are told
// apart by the number that they were made with. A program that needs two GPUs
// runs that way where there is only one.

#ifndef REPRISE_TOOLS_PROCESSES_SELECTED_GPUS_H_
#define REPRISE_TOOLS_PROCESSES_SELECTED_GPUS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/device/driver.h"

namespace reprise {

// Thread-safe.
class SelectedGpus final : public GpuDriver {
 public:
  // `driver` must outlive this object, and has every GPU of `gpus`.
  SelectedGpus(GpuDriver& driver, std::vector<int> gpus);

  int device_count() const override;
  const GpuProperties& properties(int device) const override;
  bool CanReadPeer(int device, const std::string& uuid) override;

  absl::StatusOr<void*> Allocate(int device, size_t num_bytes) override;
  void Free(int device, void* memory) override;
  absl::StatusOr<void*> AllocatePinned(size_t num_bytes) override;
  void FreePinned(void* memory) override;
  absl::Status RegisterHost(void* memory, size_t num_bytes) override;
  void UnregisterHost(void* memory) override;
  // The device of memory on a GPU with several numbers is the first of them,
  // and that of a peer's memory on a GPU that is not in the list is -1.
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

 private:
  // The number beneath; -1, which no driver has, for a device that is not here.
  int Beneath(int device) const;
  GpuStream Beneath(GpuStream stream) const {
    return {Beneath(stream.device), stream.handle};
  }
  GpuEvent Beneath(GpuEvent event) const {
    return {Beneath(event.device), event.handle};
  }

  GpuDriver& driver_;
  const std::vector<int> gpus_;
};

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_SELECTED_GPUS_H_

// The GPUs of CUDA's driver library, as a `GpuDriver`. Needs cuda.h.

#ifndef REPRISE_AGENT_DEVICE_CUDA_CUDA_GPUS_H_
#define REPRISE_AGENT_DEVICE_CUDA_CUDA_GPUS_H_

#include <atomic>
#include <deque>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "agent/device/cuda/cuda_library.h"
#include "agent/device/driver.h"
#include "agent/runtime/native_mutex.h"

namespace reprise::cuda {

class Gpus final : public GpuDriver {
 public:
  static absl::StatusOr<std::unique_ptr<Gpus>> Load(const std::string& file);

  int device_count() const override;
  const GpuProperties& properties(int device) const override;
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

 private:
  class InContext;
  struct PendingCallback;

  // Whether it is pinned or registered.
  bool IsHostMemory(const void* memory);
  // In rows: two of half the bytes each and, for an odd number of bytes, two of
  // the last bytes.
  CUresult CopyRows(CUdeviceptr to, CUdeviceptr from, size_t num_bytes,
                    CUstream stream);

  struct Gpu {
    CUdevice handle = 0;
    GpuProperties properties;
    std::atomic<CUcontext> context = nullptr;  // once it is retained
    // The first fatal error; CUDA_SUCCESS while there was none.
    std::atomic<CUresult> fatal_error = CUDA_SUCCESS;
  };

  Gpus() = default;
  CUresult ReadProperties(Gpu& gpu, int device);
  bool Exists(int device) const;
  absl::Status NoSuchDevice(int device) const;
  // Retains it, if that was not done, and enables peers to be read.
  absl::StatusOr<CUcontext> ContextOf(int device);
  // A device that is in use and not lost, or at least not lost: for memory of
  // the host, which is for all of them.
  int DeviceForHost() const;
  // OK, or what `function` on the device met; keeps note of fatal errors.
  // `device` must exist.
  absl::Status Check(int device, const char* function, CUresult result);
  // Those of `Check`, but INVALID_ARGUMENT for a handle that is none.
  absl::Status CheckHandle(int device, const char* function, CUresult result);

  Library library_;
  std::deque<Gpu> gpus_;  // as many as there are devices
  NativeMutex retain_mutex_;
};

}  // namespace reprise::cuda

#endif  // REPRISE_AGENT_DEVICE_CUDA_CUDA_GPUS_H_

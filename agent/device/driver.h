// The driver seam of accelerators: memory, streams, events and copies, as the
// channels and the storages of GPUs use them.
//
// `CudaDriver` (agent/device/cuda) calls the driver's library, and a simulated
// world has GPUs of its own (sim/device). What uses this interface is the same
// object code on both. It is CUDA's driver API with three differences: errors
// are statuses, a device is an argument instead of a state of the thread, and
// handles are values that this process makes.
//
// Work is put on streams and runs later: operations of one stream in their
// order, those of different streams in any, unless an event orders them. What
// goes wrong while they run is reported by the functions that wait and by the
// callbacks. Every function may be called on any thread, and none throws.
//
// Errors: RESOURCE_EXHAUSTED without memory; NOT_FOUND for a pointer that
// belongs to no device; UNIMPLEMENTED for what a device or this machine cannot
// do (to share memory between processes, for example); UNAVAILABLE for a device
// that is lost, which stays so; INTERNAL for everything else, an error of
// earlier work among it. The text names the driver's own error.

#ifndef REPRISE_AGENT_DEVICE_DRIVER_H_
#define REPRISE_AGENT_DEVICE_DRIVER_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace reprise {

// A stream of a device. The default stream of each device exists always.
struct GpuStream {
  static constexpr uintptr_t kDefault = 0;

  int device = 0;
  uintptr_t handle = kDefault;
  friend bool operator==(const GpuStream&, const GpuStream&) = default;
};

// A point in the work of a stream. On CUDA the handle is the driver's own.
struct GpuEvent {
  int device = 0;
  uintptr_t handle = 0;
  friend bool operator==(const GpuEvent&, const GpuEvent&) = default;
};

struct GpuProperties {
  std::string name;         // "NVIDIA H200"
  std::string uuid;         // "8-4-4-4-12", lower-case hex
  std::string pci_bus_id;   // "0000:19:00.0"
  size_t memory_bytes = 0;  // in all
  bool has_unified_addressing = true;
  bool is_compute_mode_default = true;
};

// What the driver knows about a pointer.
struct GpuAllocation {
  int device = 0;
  void* base = nullptr;  // of the whole allocation around the pointer
  size_t num_bytes = 0;  // of the whole allocation
  uint64_t id = 0;       // never given again in this process
  // Whether `ExportMemory` takes it. Memory of a stream-ordered pool and of
  // virtual memory management cannot be opened by another process that way.
  bool may_be_exported = false;
};

class GpuDriver {
 public:
  virtual ~GpuDriver() = default;

  // --- Devices: 0 to `device_count() - 1` ---
  virtual int device_count() const = 0;
  virtual const GpuProperties& properties(int device) const = 0;
  // Whether `device` may read the memory of the device with that UUID, here or
  // in another process of this machine. A device may always read its own.
  virtual bool CanReadPeer(int device, const std::string& uuid) = 0;

  // --- Memory ---
  virtual absl::StatusOr<void*> Allocate(int device, size_t num_bytes) = 0;
  // Waits for the work that uses it.
  virtual void Free(int device, void* memory) = 0;
  // Memory of the host that devices copy at full speed.
  virtual absl::StatusOr<void*> AllocatePinned(size_t num_bytes) = 0;
  virtual void FreePinned(void* memory) = 0;
  // Makes memory of the caller's as fast as pinned memory: whole pages, mapped
  // until it is unregistered.
  virtual absl::Status RegisterHost(void* memory, size_t num_bytes) = 0;
  virtual void UnregisterHost(void* memory) = 0;
  // NOT_FOUND for memory of the host, pinned memory included.
  virtual absl::StatusOr<GpuAllocation> FindAllocation(const void* memory) = 0;

  // --- Streams ---
  // It does not wait for the default stream, nor that for it.
  virtual absl::StatusOr<GpuStream> CreateStream(int device) = 0;
  // Work that was put on it is done nevertheless.
  virtual void DestroyStream(GpuStream stream) = 0;
  // Blocks until all work of the stream is done, and returns its error.
  virtual absl::Status Synchronize(GpuStream stream) = 0;
  // Copies when the stream comes to it, between any two of host and devices.
  // Memory of the host that is neither pinned nor registered may be read before
  // this returns, and makes the call block.
  virtual absl::Status Copy(void* to, const void* from, size_t num_bytes,
                            GpuStream stream) = 0;
  // Calls `callback` once when the work before it is done, or has failed, with
  // the status; on a thread of the driver's, where it must neither block nor
  // call the driver. An error means that it will not be called.
  virtual absl::Status AddCallback(
      GpuStream stream, absl::AnyInvocable<void(absl::Status)> callback) = 0;

  // --- Events ---
  // `is_shared`: it can be exported to other processes.
  virtual absl::StatusOr<GpuEvent> CreateEvent(int device, bool is_shared) = 0;
  // Waits of streams for it hold nevertheless.
  virtual void DestroyEvent(GpuEvent event) = 0;
  virtual absl::Status Record(GpuEvent event, GpuStream stream) = 0;
  // Lets work that is put on `stream` later wait for the latest record, of this
  // or another process. An event that was never recorded holds nothing up.
  virtual absl::Status Wait(GpuStream stream, GpuEvent event) = 0;
  // Whether the work before the latest record is done.
  virtual absl::StatusOr<bool> IsDone(GpuEvent event) = 0;
  // Blocks until it is.
  virtual absl::Status Synchronize(GpuEvent event) = 0;

  // --- Between processes ---
  // Handles are strings of 64 bytes. They mean something to every process of
  // this machine that sees the device and this process, and only to others than
  // the one that made them. What they refer to must outlive their use.
  virtual absl::StatusOr<std::string> ExportMemory(int device, void* base) = 0;
  // Returns the address of the peer's base for `device`, which may be another
  // one than the peer's. INVALID_ARGUMENT for a handle that is none.
  virtual absl::StatusOr<void*> OpenMemory(int device,
                                           const std::string& handle) = 0;
  virtual void CloseMemory(int device, void* base) = 0;
  virtual absl::StatusOr<std::string> ExportEvent(GpuEvent event) = 0;
  virtual absl::StatusOr<GpuEvent> OpenEvent(int device,
                                             const std::string& handle) = 0;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_DEVICE_DRIVER_H_

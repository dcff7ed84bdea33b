// The device seam: where a tensor's bytes live.
//
// Each kind of device has a `DeviceBackend`; an agent finds those of its world
// in its `Devices` (agent/device/devices.h). The wire code asks the backend for
// memory and for the TensorPipe view of it, and never touches a pointer of a
// device itself. Sizes are in bytes. A storage is owned by the tensors that
// share it. Nothing here throws.

#ifndef REPRISE_AGENT_DEVICE_DEVICE_H_
#define REPRISE_AGENT_DEVICE_DEVICE_H_

#include <compare>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "agent/device/stream_set.h"
#include "tensorpipe/common/buffer.h"

namespace reprise {

// A device of this machine: "cpu:0", "cuda:1", ...
struct Device {
  std::string type = "cpu";
  int index = 0;

  // NOLINTNEXTLINE(modernize-use-nullptr): no pointer is compared
  friend auto operator<=>(const Device&, const Device&) = default;
  std::string ToString() const { return type + ":" + std::to_string(index); }
};

// A block of memory on one device. The tensors that view it share its bytes.
// It may be destroyed on any thread, those of TensorPipe too.
class Storage {
 public:
  virtual ~Storage() = default;
  virtual const Device& device() const = 0;
  // An address, on a GPU too; null when `num_bytes` is 0.
  virtual void* data() = 0;
  virtual size_t num_bytes() const = 0;
  // Whether the bytes stay valid as long as this object lives. Borrowed
  // memory does not, and is copied before it is sent.
  virtual bool owns_memory() const { return true; }
  // Says that work of `stream` uses the bytes: what is on it when this object
  // dies, and what was before. The memory is not used for anything else, nor
  // given back to whoever it came from, before that work is done. The stream
  // must outlive this object. Any number of threads may call it.
  virtual void RecordUse(const GpuStream& /*stream*/) {}
};

// Thread-safe.
class DeviceBackend {
 public:
  virtual ~DeviceBackend() = default;
  // Uninitialised memory, for work that is put later on the stream of `device`
  // in `streams`, or ordered after it. RESOURCE_EXHAUSTED when there is no
  // memory, INVALID_ARGUMENT when there is no such device; never throws or
  // aborts.
  virtual absl::StatusOr<std::shared_ptr<Storage>> Allocate(
      const Device& device, size_t num_bytes, const StreamSet& streams) = 0;
  // A channel reads or writes the bytes on the stream of the storage's device
  // in `streams`; the storage is told of the use.
  virtual tensorpipe::Buffer ToBuffer(Storage& storage,
                                      const StreamSet& streams) = 0;

  // For storages of CPUs, which have no streams.
  absl::StatusOr<std::shared_ptr<Storage>> Allocate(const Device& device,
                                                    size_t num_bytes) {
    return Allocate(device, num_bytes, StreamSet());
  }
  tensorpipe::Buffer ToBuffer(Storage& storage) {
    return ToBuffer(storage, StreamSet());
  }
};

// "cpu:0"
const Device& CpuDevice();

// The `type` of GPUs, PyTorch's word for them.
inline constexpr std::string_view kGpuDeviceType = "cuda";
Device GpuDevice(int index);

// Of all CPU memory that is allocated here, and so of what is received: the
// width of a cache line and of the widest vector.
inline constexpr size_t kCpuAlignment = 64;

// CPU memory that the returned object owns, uninitialised.
absl::StatusOr<std::shared_ptr<Storage>> AllocateCpu(size_t num_bytes);

// CPU memory of the caller's, which must stay valid while the storage lives.
// The agent copies it before it sends it.
std::shared_ptr<Storage> BorrowCpu(void* data, size_t num_bytes);

// CPU memory that is handed over: it is sent without a copy, and `deleter` is
// called once when nobody reads it any more, neither a tensor that shares it
// nor a peer, on the thread that let go of it last. On a thread of TensorPipe
// that may be, so the deleter must neither block nor throw.
std::shared_ptr<Storage> AdoptCpu(void* data, size_t num_bytes,
                                  absl::AnyInvocable<void(void* data)> deleter);

}  // namespace reprise

#endif  // REPRISE_AGENT_DEVICE_DEVICE_H_

// The device seam: where a tensor's bytes live.
//
// This is its narrowest form: CPU memory. Kinds of device register a
// `DeviceBackend`; the wire code asks the backend for memory and for the
// TensorPipe view of it and never touches a pointer of a device itself.

#ifndef REPRISE_AGENT_DEVICE_DEVICE_H_
#define REPRISE_AGENT_DEVICE_DEVICE_H_

#include <compare>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "tensorpipe/common/buffer.h"

namespace reprise {

// "cpu:0", "cuda:1", ...
struct Device {
  std::string type = "cpu";
  int index = 0;

  // NOLINTNEXTLINE(modernize-use-nullptr): no pointer is compared
  friend auto operator<=>(const Device&, const Device&) = default;
  std::string ToString() const { return type + ":" + std::to_string(index); }
};

// A block of memory on one device. The bytes are shared, not copied, by every
// tensor that views it.
class Storage {
 public:
  virtual ~Storage() = default;
  virtual const Device& device() const = 0;
  // On a CPU, an address; null when `num_bytes` is 0.
  virtual void* data() = 0;
  virtual size_t num_bytes() const = 0;
  // Whether the bytes stay valid as long as this object lives. Borrowed
  // memory does not, and is copied before it is sent.
  virtual bool owns_memory() const { return true; }
};

// Thread-safe.
class DeviceBackend {
 public:
  virtual ~DeviceBackend() = default;
  // RESOURCE_EXHAUSTED when there is no memory; never throws or aborts.
  virtual absl::StatusOr<std::shared_ptr<Storage>> Allocate(
      const Device& device, size_t num_bytes) = 0;
  virtual tensorpipe::Buffer ToBuffer(Storage& storage) = 0;
};

// Returns null when no backend for `device_type` is built in.
DeviceBackend* FindDeviceBackend(std::string_view device_type);

// CPU memory that the returned object owns, uninitialised.
absl::StatusOr<std::shared_ptr<Storage>> AllocateCpu(size_t num_bytes);

// CPU memory of the caller's, which must stay valid while the storage lives.
std::shared_ptr<Storage> BorrowCpu(void* data, size_t num_bytes);

}  // namespace reprise

#endif  // REPRISE_AGENT_DEVICE_DEVICE_H_

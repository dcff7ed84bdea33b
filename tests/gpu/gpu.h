// The first GPU of a machine, and what the programs here do with it.
//
// There is no compiler for GPUs here, so all work is copies, and bytes are made
// and compared on the host.

#ifndef REPRISE_TESTS_GPU_GPU_H_
#define REPRISE_TESTS_GPU_GPU_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/device/device.h"
#include "agent/device/devices.h"
#include "agent/device/stream_set.h"

namespace reprise::gpu {

// The device that all tensors lie on.
inline const Device& FirstGpu() {
  static const Device gpu = GpuDevice(0);
  return gpu;
}

// Of the default stream alone, or of `stream`.
StreamSet Only(GpuStream stream);

// Thread-safe.
class Gpu {
 public:
  // UNIMPLEMENTED with the reason when there is no GPU. `is_fake`: one whose
  // memory is this process's own, with which a program can be tried where there
  // is none. It cannot be shared between processes.
  static absl::StatusOr<std::unique_ptr<Gpu>> Find(bool is_fake);
  ~Gpu();

  GpuDriver& driver() { return *devices_->gpu_driver(); }
  Devices& devices() { return *devices_; }
  bool is_fake() const { return is_fake_; }

  // The largest tensor to try: 1 GiB, or less where the memory is small.
  size_t LargestTensor() const;

  GpuStream NewStream();

  // Memory with bytes that follow from `seed`, which are there when it returns.
  absl::StatusOr<std::shared_ptr<Storage>> Make(size_t num_bytes,
                                                uint64_t seed);
  // Gives it these bytes. On return they are there; what was on `stream` before
  // is done.
  absl::Status Fill(Storage& storage, uint64_t seed, GpuStream stream);
  // OK when `num_bytes` from `offset` on are the first ones of `seed`;
  // DATA_LOSS names the first that is not. Reads after the work that is on
  // `stream`.
  absl::Status Compare(Storage& storage, size_t offset, size_t num_bytes,
                       uint64_t seed, GpuStream stream);
  absl::Status Compare(Storage& storage, uint64_t seed, GpuStream stream) {
    return Compare(storage, 0, storage.num_bytes(), seed, stream);
  }

  // Puts copies on `stream` that take about so long, and does not wait.
  absl::Status KeepBusy(GpuStream stream, absl::Duration duration);
  // Whether work that was put on `stream` so far is still running.
  absl::StatusOr<bool> IsBusy(GpuStream stream);

 private:
  class Staging;

  Gpu(std::unique_ptr<Devices> devices, bool is_fake);
  absl::Status PrepareBusyWork(GpuStream stream);

  const std::unique_ptr<Devices> devices_;
  const bool is_fake_;
  std::mutex mutex_;
  // One buffer of pinned memory, for one user at a time.
  std::shared_ptr<Storage> staging_;
  std::mutex busy_mutex_;
  std::shared_ptr<Storage> busy_from_;
  std::shared_ptr<Storage> busy_to_;
  absl::Duration busy_copy_;  // what one takes
};

}  // namespace reprise::gpu

#endif  // REPRISE_TESTS_GPU_GPU_H_

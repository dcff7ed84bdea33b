// What scenarios do on GPUs. There are no kernels in a simulated world, so all
// work is copies: it fills tensors, turns their bytes round, and reads them.
//
// Nothing here waits for a GPU unless it says so. Errors are the driver's.

#ifndef REPRISE_TESTS_SCENARIOS_GPU_WORK_H_
#define REPRISE_TESTS_SCENARIOS_GPU_WORK_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/device/devices.h"
#include "agent/device/tensor.h"
#include "agent/runtime/mutex.h"
#include "sim/scenario/scenario.h"

namespace reprise::scenarios {

// Bytes that follow from `tag`.
std::string BytesOf(uint64_t tag, int64_t num_bytes);
// The last `by` bytes first; `by` may be larger than there are bytes.
std::string Turned(std::string_view bytes, int64_t by);

// Channels for `TransportOptions::channels`, those that any two draws have in
// common among them.
std::vector<std::string> DrawGpuChannels(Draws random);

inline StreamSet Only(GpuStream stream) {
  StreamSet streams;
  streams.Set(stream);
  return streams;
}

// Thread-safe. Tensors are of bytes. Must outlive the agents and tensors that
// use its streams, and be destroyed by the body of the scenario.
class GpuWork {
 public:
  // The worker must have `Environment::devices`.
  explicit GpuWork(Worker& worker);
  GpuWork(const GpuWork&) = delete;
  GpuWork& operator=(const GpuWork&) = delete;
  ~GpuWork();

  Devices& devices() { return devices_; }

  // Of our own, as long as this object lives.
  absl::StatusOr<GpuStream> NewStream(int device);
  absl::Status Order(GpuStream later, GpuStream earlier) {
    return devices_.gpu_streams()->WaitFor(later, earlier);
  }
  // Gives the stream so many small copies to do.
  absl::Status KeepBusy(GpuStream stream, int64_t num_copies);

  // A tensor of one dimension that has these bytes: on a CPU at once, on a GPU
  // when `stream` comes to it.
  absl::StatusOr<Tensor> Make(const Device& device, GpuStream stream,
                              std::string_view bytes);
  // The same for a tensor that is there, of one dimension.
  absl::Status Write(const Tensor& tensor, GpuStream stream,
                     std::string_view bytes);
  // A new tensor, on `device`, with the bytes of this one turned round. If both
  // are on GPUs, `stream` is of either.
  absl::StatusOr<Tensor> Turn(const Tensor& tensor, const Device& device,
                              GpuStream stream, int64_t by);
  // Waits for the stream, and returns the elements of the tensor in their
  // order.
  absl::StatusOr<std::string> Read(const Tensor& tensor, GpuStream stream);

 private:
  absl::Status Copy(const Storage& to, char* to_data, const Storage& from,
                    const char* from_data, int64_t num_bytes, GpuStream stream);

  Devices& devices_;
  Mutex mutex_;
  std::vector<GpuStream> streams_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise::scenarios

#endif  // REPRISE_TESTS_SCENARIOS_GPU_WORK_H_

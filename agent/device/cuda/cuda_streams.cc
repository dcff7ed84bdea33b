// Streams and events. Empty when built without CUDA.
#ifdef REPRISE_WITH_CUDA

#include <atomic>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "agent/device/cuda/cuda_gpus.h"
#include "agent/device/cuda/in_context.h"
#include "agent/runtime/native_mutex.h"

namespace reprise::cuda {

namespace {

// What a driver that reported an error may still use is reachable, and never
// freed.
void KeepForEver(void* data) {
  static auto* const mutex = new NativeMutex();
  static auto* const kept = new std::vector<void*>();
  const NativeMutexLock lock(*mutex);
  kept->push_back(data);
}

}  // namespace

// A callback that the driver was given. Shared between the two, because it is
// not documented whether a driver that reported an error calls nevertheless.
struct Gpus::PendingCallback {
  Gpus* gpus;
  int device;
  absl::AnyInvocable<void(absl::Status)> callback;
  std::atomic<bool> is_claimed = false;

  PendingCallback(Gpus* gpus, int device,
                  absl::AnyInvocable<void(absl::Status)> callback)
      : gpus(gpus), device(device), callback(std::move(callback)) {}

  // True for the first who asks.
  bool Claim() { return !is_claimed.exchange(true); }

  static void CUDA_CB Run(CUstream /*stream*/, CUresult result, void* data) {
    const std::unique_ptr<std::shared_ptr<PendingCallback>> pending(
        static_cast<std::shared_ptr<PendingCallback>*>(data));
    PendingCallback& self = **pending;
    if (!self.Claim()) return;
    self.callback(
        self.gpus->Check(self.device, "the work before a callback", result));
  }
};

absl::StatusOr<GpuStream> Gpus::CreateStream(int device) {
  const InContext in_context(*this, device);
  if (!in_context.ok()) return in_context.status();
  CUstream stream = nullptr;
  if (absl::Status status =
          Check(device, "cuStreamCreate",
                library_.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
      !status.ok()) {
    return status;
  }
  return GpuStream{device, reinterpret_cast<uintptr_t>(stream)};
}

void Gpus::DestroyStream(GpuStream stream) {
  const InContext in_context(*this, stream.device);
  if (!in_context.ok()) return;
  Check(stream.device, "cuStreamDestroy",
        library_.cuStreamDestroy(Native(stream)))
      .IgnoreError();
}

absl::Status Gpus::Synchronize(GpuStream stream) {
  const InContext in_context(*this, stream.device);
  if (!in_context.ok()) return in_context.status();
  return Check(stream.device, "cuStreamSynchronize",
               library_.cuStreamSynchronize(Native(stream)));
}

bool Gpus::IsHostMemory(const void* memory) {
  unsigned int type = 0;
  CUpointer_attribute attributes[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE};
  void* values[] = {&type};
  return library_.cuPointerGetAttributes(1, attributes, values,
                                         Address(memory)) == CUDA_SUCCESS &&
         type == CU_MEMORYTYPE_HOST;
}

CUresult Gpus::CopyRows(CUdeviceptr to, CUdeviceptr from, size_t num_bytes,
                        CUstream stream) {
  const auto copy = [&](size_t at, size_t row_bytes) {
    CUDA_MEMCPY2D copy = {};
    copy.srcMemoryType = CU_MEMORYTYPE_UNIFIED;
    copy.srcDevice = from + at;
    copy.srcPitch = row_bytes;
    copy.dstMemoryType = CU_MEMORYTYPE_UNIFIED;
    copy.dstDevice = to + at;
    copy.dstPitch = row_bytes;
    copy.WidthInBytes = row_bytes;
    copy.Height = 2;
    return library_.cuMemcpy2DAsync(&copy, stream);
  };
  const CUresult result = copy(0, num_bytes / 2);
  // The last byte of an odd number, with the one before it.
  if (result != CUDA_SUCCESS || num_bytes % 2 == 0) return result;
  const CUresult last = copy(num_bytes - 2, 1);
  // An error says that nothing is copied any more.
  if (last != CUDA_SUCCESS) library_.cuStreamSynchronize(stream);
  return last;
}

absl::Status Gpus::Copy(void* to, const void* from, size_t num_bytes,
                        GpuStream stream) {
  if (num_bytes == 0) return absl::OkStatus();
  const InContext in_context(*this, stream.device);
  if (!in_context.ok()) return in_context.status();
  // The driver puts so few bytes of the host's among its commands, from where
  // the engine copies them that runs kernels. Processes that share a GPU take
  // turns on that, which costs 150 us. Rows go to the engine that only copies.
  constexpr size_t kMostInlineBytes = size_t{32} << 10;
  if (num_bytes >= 2 && num_bytes < kMostInlineBytes && IsHostMemory(from)) {
    return Check(
        stream.device, "cuMemcpy2DAsync",
        CopyRows(Address(to), Address(from), num_bytes, Native(stream)));
  }
  return Check(stream.device, "cuMemcpyAsync",
               library_.cuMemcpyAsync(Address(to), Address(from), num_bytes,
                                      Native(stream)));
}

absl::Status Gpus::AddCallback(
    GpuStream stream, absl::AnyInvocable<void(absl::Status)> callback) {
  const InContext in_context(*this, stream.device);
  if (!in_context.ok()) return in_context.status();
  std::shared_ptr<PendingCallback> ours;
  std::unique_ptr<std::shared_ptr<PendingCallback>> the_drivers;
  try {
    ours = std::make_shared<PendingCallback>(this, stream.device,
                                             std::move(callback));
    the_drivers = std::make_unique<std::shared_ptr<PendingCallback>>(ours);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("no memory for a stream's callback");
  }
  void* const data = the_drivers.release();
  // cuLaunchHostFunc would not call after an error, and would not tell it.
  absl::Status status =
      Check(stream.device, "cuStreamAddCallback",
            library_.cuStreamAddCallback(Native(stream), &PendingCallback::Run,
                                         data, /*flags=*/0));
  if (status.ok() || !ours->Claim()) return absl::OkStatus();
  KeepForEver(data);
  ours->callback = nullptr;
  return status;
}

absl::StatusOr<GpuEvent> Gpus::CreateEvent(int device, bool is_shared) {
  const InContext in_context(*this, device);
  if (!in_context.ok()) return in_context.status();
  CUevent event = nullptr;
  const unsigned int flags =
      CU_EVENT_DISABLE_TIMING | (is_shared ? CU_EVENT_INTERPROCESS : 0);
  if (absl::Status status =
          Check(device, "cuEventCreate", library_.cuEventCreate(&event, flags));
      !status.ok()) {
    return status;
  }
  return GpuEvent{device, reinterpret_cast<uintptr_t>(event)};
}

void Gpus::DestroyEvent(GpuEvent event) {
  const InContext in_context(*this, event.device);
  if (!in_context.ok()) return;
  Check(event.device, "cuEventDestroy", library_.cuEventDestroy(Native(event)))
      .IgnoreError();
}

absl::Status Gpus::Record(GpuEvent event, GpuStream stream) {
  const InContext in_context(*this, stream.device);
  if (!in_context.ok()) return in_context.status();
  return Check(stream.device, "cuEventRecord",
               library_.cuEventRecord(Native(event), Native(stream)));
}

absl::Status Gpus::Wait(GpuStream stream, GpuEvent event) {
  const InContext in_context(*this, stream.device);
  if (!in_context.ok()) return in_context.status();
  return Check(stream.device, "cuStreamWaitEvent",
               library_.cuStreamWaitEvent(Native(stream), Native(event),
                                          /*Flags=*/0));
}

absl::StatusOr<bool> Gpus::IsDone(GpuEvent event) {
  const InContext in_context(*this, event.device);
  if (!in_context.ok()) return in_context.status();
  const CUresult result = library_.cuEventQuery(Native(event));
  if (result == CUDA_ERROR_NOT_READY) return false;
  if (absl::Status status = Check(event.device, "cuEventQuery", result);
      !status.ok()) {
    return status;
  }
  return true;
}

absl::Status Gpus::Synchronize(GpuEvent event) {
  const InContext in_context(*this, event.device);
  if (!in_context.ok()) return in_context.status();
  return Check(event.device, "cuEventSynchronize",
               library_.cuEventSynchronize(Native(event)));
}

}  // namespace reprise::cuda

#endif

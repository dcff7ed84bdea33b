// Memory, of devices and of the host, and what processes share. Empty when
// built without CUDA.
#ifdef REPRISE_WITH_CUDA

#include <cstring>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "agent/device/cuda/cuda_gpus.h"
#include "agent/device/cuda/in_context.h"

namespace reprise::cuda {
namespace {

// Handles travel as the bytes of the driver's own types.
template <typename Handle>
std::string ToString(const Handle& handle) {
  static_assert(sizeof(Handle) == 64);
  return std::string(reinterpret_cast<const char*>(&handle), sizeof(handle));
}

template <typename Handle>
absl::StatusOr<Handle> FromString(const std::string& bytes) {
  Handle handle;
  if (bytes.size() != sizeof(handle)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a handle of ", bytes.size(), " bytes, and CUDA's have 64"));
  }
  std::memcpy(&handle, bytes.data(), sizeof(handle));
  return handle;
}

}  // namespace

absl::StatusOr<void*> Gpus::Allocate(int device, size_t num_bytes) {
  const InContext in_context(*this, device);
  if (!in_context.ok()) return in_context.status();
  CUdeviceptr memory = 0;
  if (absl::Status status =
          Check(device, "cuMemAlloc", library_.cuMemAlloc(&memory, num_bytes));
      !status.ok()) {
    return status;
  }
  return reinterpret_cast<void*>(memory);
}

void Gpus::Free(int device, void* memory) {
  const InContext in_context(*this, device);
  // The memory of a lost device goes with the process.
  if (!in_context.ok()) return;
  Check(device, "cuMemFree", library_.cuMemFree(Address(memory))).IgnoreError();
}

absl::StatusOr<void*> Gpus::AllocatePinned(size_t num_bytes) {
  const int device = DeviceForHost();
  const InContext in_context(*this, device);
  if (!in_context.ok()) return in_context.status();
  void* memory = nullptr;
  if (absl::Status status =
          Check(device, "cuMemHostAlloc",
                library_.cuMemHostAlloc(&memory, num_bytes,
                                        CU_MEMHOSTALLOC_PORTABLE));
      !status.ok()) {
    return status;
  }
  return memory;
}

void Gpus::FreePinned(void* memory) {
  const int device = DeviceForHost();
  const InContext in_context(*this, device);
  if (!in_context.ok()) return;
  Check(device, "cuMemFreeHost", library_.cuMemFreeHost(memory)).IgnoreError();
}

absl::Status Gpus::RegisterHost(void* memory, size_t num_bytes) {
  const int device = DeviceForHost();
  const InContext in_context(*this, device);
  if (!in_context.ok()) return in_context.status();
  return Check(device, "cuMemHostRegister",
               library_.cuMemHostRegister(memory, num_bytes,
                                          CU_MEMHOSTREGISTER_PORTABLE));
}

void Gpus::UnregisterHost(void* memory) {
  const int device = DeviceForHost();
  const InContext in_context(*this, device);
  if (!in_context.ok()) return;
  Check(device, "cuMemHostUnregister", library_.cuMemHostUnregister(memory))
      .IgnoreError();
}

absl::StatusOr<GpuAllocation> Gpus::FindAllocation(const void* memory) {
  unsigned int type = 0;
  int device = -1;
  CUdeviceptr base = 0;
  size_t num_bytes = 0;
  unsigned long long id = 0;  // NOLINT(google-runtime-int): CUDA's own type
  // An int or a bool, depending on the version.
  int may_be_exported = 0;
  CUpointer_attribute attributes[] = {
      CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
      CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
      CU_POINTER_ATTRIBUTE_RANGE_START_ADDR,
      CU_POINTER_ATTRIBUTE_RANGE_SIZE,
      CU_POINTER_ATTRIBUTE_BUFFER_ID,
      CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE,
  };
  void* values[] = {&type, &device, &base, &num_bytes, &id, &may_be_exported};

  const auto query = [&] {
    return library_.cuPointerGetAttributes(std::size(attributes), attributes,
                                           values, Address(memory));
  };

  // Any context will do, and none. One that CUDA's runtime has left on this
  // thread may be invalid, so it is set aside.
  CUcontext current = nullptr;
  library_.cuCtxGetCurrent(&current);
  library_.cuCtxSetCurrent(gpus_[DeviceForHost()].context);
  CUresult result = query();
  library_.cuCtxSetCurrent(current);
  if (result == CUDA_ERROR_INVALID_CONTEXT) {
    const InContext in_context(*this, DeviceForHost());
    if (!in_context.ok()) return in_context.status();
    result = query();
  }

  if (result == CUDA_SUCCESS ? type != CU_MEMORYTYPE_DEVICE
                             : result == CUDA_ERROR_INVALID_VALUE) {
    return absl::NotFoundError("the pointer is to no memory of a GPU");
  }
  if (result != CUDA_SUCCESS) {
    return absl::Status(CodeOf(result),
                        absl::StrCat("cuPointerGetAttributes failed: ",
                                     library_.Describe(result)));
  }
  if (!Exists(device)) return NoSuchDevice(device);
  GpuAllocation allocation;
  allocation.device = device;
  allocation.base = reinterpret_cast<void*>(base);
  allocation.num_bytes = num_bytes;
  allocation.id = id;
  allocation.may_be_exported = may_be_exported != 0;
  return allocation;
}

absl::StatusOr<std::string> Gpus::ExportMemory(int device, void* base) {
  const InContext in_context(*this, device);
  if (!in_context.ok()) return in_context.status();
  CUipcMemHandle handle = {};
  if (absl::Status status =
          Check(device, "cuIpcGetMemHandle",
                library_.cuIpcGetMemHandle(&handle, Address(base)));
      !status.ok()) {
    return status;
  }
  return ToString(handle);
}

absl::StatusOr<void*> Gpus::OpenMemory(int device, const std::string& handle) {
  const auto native = FromString<CUipcMemHandle>(handle);
  if (!native.ok()) return native.status();
  const InContext in_context(*this, device);
  if (!in_context.ok()) return in_context.status();
  CUdeviceptr base = 0;
  if (absl::Status status =
          CheckHandle(device, "cuIpcOpenMemHandle",
                      library_.cuIpcOpenMemHandle(
                          &base, *native, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
      !status.ok()) {
    return status;
  }
  return reinterpret_cast<void*>(base);
}

void Gpus::CloseMemory(int device, void* base) {
  const InContext in_context(*this, device);
  if (!in_context.ok()) return;
  Check(device, "cuIpcCloseMemHandle",
        library_.cuIpcCloseMemHandle(Address(base)))
      .IgnoreError();
}

absl::StatusOr<std::string> Gpus::ExportEvent(GpuEvent event) {
  const InContext in_context(*this, event.device);
  if (!in_context.ok()) return in_context.status();
  CUipcEventHandle handle = {};
  if (absl::Status status =
          Check(event.device, "cuIpcGetEventHandle",
                library_.cuIpcGetEventHandle(&handle, Native(event)));
      !status.ok()) {
    return status;
  }
  return ToString(handle);
}

absl::StatusOr<GpuEvent> Gpus::OpenEvent(int device,
                                         const std::string& handle) {
  const auto native = FromString<CUipcEventHandle>(handle);
  if (!native.ok()) return native.status();
  const InContext in_context(*this, device);
  if (!in_context.ok()) return in_context.status();
  CUevent event = nullptr;
  if (absl::Status status =
          CheckHandle(device, "cuIpcOpenEventHandle",
                      library_.cuIpcOpenEventHandle(&event, *native));
      !status.ok()) {
    return status;
  }
  return GpuEvent{device, reinterpret_cast<uintptr_t>(event)};
}

}  // namespace reprise::cuda

#endif

// Devices, their contexts, and errors. Empty when built without CUDA.
#ifdef REPRISE_WITH_CUDA

#include "agent/device/cuda/cuda_gpus.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace reprise::cuda {
namespace {

constexpr int kOldestDriver = 11040;  // CUDA 11.4

std::string Format(const CUuuid& uuid) {
  std::string hex = absl::BytesToHexString({uuid.bytes, sizeof(uuid.bytes)});
  for (size_t dash : {20, 16, 12, 8}) hex.insert(dash, 1, '-');
  return hex;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Gpus>> Gpus::Load(const std::string& file) {
  std::unique_ptr<Gpus> gpus(new Gpus);
  const Library& library = gpus->library_;
  if (absl::Status loaded = gpus->library_.Load(file); !loaded.ok()) {
    return loaded;
  }
  const auto none = [&](const char* function, CUresult result) {
    return absl::UnimplementedError(
        absl::StrCat("there is no usable NVIDIA GPU: ", function, " of ", file,
                     " failed: ", library.Describe(result)));
  };
  if (const CUresult result = library.cuInit(0); result != CUDA_SUCCESS) {
    return none("cuInit", result);
  }
  int version = 0;
  if (const CUresult result = library.cuDriverGetVersion(&version);
      result != CUDA_SUCCESS) {
    return none("cuDriverGetVersion", result);
  }
  if (version < kOldestDriver) {
    return absl::UnimplementedError(absl::StrCat(
        "the NVIDIA driver is too old: it is for CUDA ", version / 1000, ".",
        version % 1000 / 10, ", and 11.4 is the oldest that is supported"));
  }
  int count = 0;
  if (const CUresult result = library.cuDeviceGetCount(&count);
      result != CUDA_SUCCESS) {
    return none("cuDeviceGetCount", result);
  }
  if (count <= 0) {
    return absl::UnimplementedError("there is no NVIDIA GPU that is visible");
  }
  for (int device = 0; device < count; ++device) {
    const CUresult result =
        gpus->ReadProperties(gpus->gpus_.emplace_back(), device);
    if (result != CUDA_SUCCESS) {
      return none("reading the properties of a device", result);
    }
  }
  return gpus;
}

CUresult Gpus::ReadProperties(Gpu& gpu, int device) {
  CUresult result = library_.cuDeviceGet(&gpu.handle, device);
  const auto next = [&](const auto& call) {
    if (result == CUDA_SUCCESS) result = call();
  };
  GpuProperties& properties = gpu.properties;
  char text[256] = {};
  next([&] {
    return library_.cuDeviceGetName(text, sizeof(text) - 1, gpu.handle);
  });
  properties.name = text;
  CUuuid uuid = {};
  next([&] { return library_.cuDeviceGetUuid(&uuid, gpu.handle); });
  properties.uuid = Format(uuid);
  char bus[32] = {};
  next([&] {
    return library_.cuDeviceGetPCIBusId(bus, sizeof(bus) - 1, gpu.handle);
  });
  properties.pci_bus_id = absl::AsciiStrToLower(bus);
  next([&] {
    return library_.cuDeviceTotalMem(&properties.memory_bytes, gpu.handle);
  });
  int unified = 0;
  next([&] {
    return library_.cuDeviceGetAttribute(
        &unified, CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, gpu.handle);
  });
  properties.has_unified_addressing = unified != 0;
  int mode = 0;
  next([&] {
    return library_.cuDeviceGetAttribute(
        &mode, CU_DEVICE_ATTRIBUTE_COMPUTE_MODE, gpu.handle);
  });
  properties.is_compute_mode_default = mode == CU_COMPUTEMODE_DEFAULT;
  return result;
}

int Gpus::device_count() const { return static_cast<int>(gpus_.size()); }

const GpuProperties& Gpus::properties(int device) const {
  static const auto* const none = new GpuProperties;
  return Exists(device) ? gpus_[device].properties : *none;
}

bool Gpus::CanReadPeer(int device, const std::string& uuid) {
  if (!Exists(device)) return false;
  const Gpu& reader = gpus_[device];
  if (reader.properties.uuid == uuid) return true;
  for (const Gpu& gpu : gpus_) {
    if (gpu.properties.uuid != uuid) continue;
    int can_access = 0;
    return library_.cuDeviceCanAccessPeer(&can_access, reader.handle,
                                          gpu.handle) == CUDA_SUCCESS &&
           can_access != 0;
  }
  return false;
}

bool Gpus::Exists(int device) const {
  return device >= 0 && device < device_count();
}

absl::Status Gpus::NoSuchDevice(int device) const {
  return absl::InvalidArgumentError(
      absl::StrCat("there is no device cuda:", device, "; this process has ",
                   gpus_.size(), ", counted from 0"));
}

absl::StatusOr<CUcontext> Gpus::ContextOf(int device) {
  if (!Exists(device)) return NoSuchDevice(device);
  Gpu& gpu = gpus_[device];
  if (const CUresult error = gpu.fatal_error; error != CUDA_SUCCESS) {
    return absl::UnavailableError(
        absl::StrCat("cuda:", device, " is lost: ", library_.Describe(error),
                     "; only another process can use it again"));
  }
  if (CUcontext context = gpu.context) return context;
  NativeMutexLock lock(retain_mutex_);
  if (CUcontext context = gpu.context) return context;
  CUcontext context = nullptr;
  const CUresult result =
      library_.cuDevicePrimaryCtxRetain(&context, gpu.handle);
  if (result != CUDA_SUCCESS) {
    // Not taken for a lost device: another process may be using it alone.
    return absl::Status(
        CodeOf(result),
        absl::StrCat("cuDevicePrimaryCtxRetain for cuda:", device,
                     " failed: ", library_.Describe(result)));
  }
  // Copies between two devices go through the host unless each of them may
  // read the other. That is no more than a wish, so errors do not matter.
  for (const Gpu& peer : gpus_) {
    const CUcontext peer_context = peer.context;
    if (peer_context == nullptr) continue;
    for (auto [from, to] :
         {std::pair(context, peer_context), std::pair(peer_context, context)}) {
      CUcontext popped;
      if (library_.cuCtxPushCurrent(from) != CUDA_SUCCESS) continue;
      library_.cuCtxEnablePeerAccess(to, 0);
      library_.cuCtxPopCurrent(&popped);
    }
  }
  gpu.context = context;
  return context;
}

int Gpus::DeviceForHost() const {
  int unused = 0;
  for (int device = device_count(); device-- > 0;) {
    const Gpu& gpu = gpus_[device];
    if (gpu.fatal_error != CUDA_SUCCESS) continue;
    if (gpu.context != nullptr) return device;
    unused = device;
  }
  return unused;
}

absl::Status Gpus::Check(int device, const char* function, CUresult result) {
  if (result == CUDA_SUCCESS) return absl::OkStatus();
  if (IsFatal(result)) {
    CUresult none = CUDA_SUCCESS;
    gpus_[device].fatal_error.compare_exchange_strong(none, result);
  }
  return absl::Status(CodeOf(result),
                      absl::StrCat(function, " on cuda:", device,
                                   " failed: ", library_.Describe(result)));
}

absl::Status Gpus::CheckHandle(int device, const char* function,
                               CUresult result) {
  absl::Status status = Check(device, function, result);
  if (result != CUDA_ERROR_INVALID_VALUE &&
      result != CUDA_ERROR_INVALID_HANDLE &&
      result != CUDA_ERROR_INVALID_CONTEXT) {
    return status;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      status.message(),
      "; either the handle is none of a living peer's, or the two processes "
      "are in containers that do not share their PID and IPC namespaces"));
}

}  // namespace reprise::cuda

#endif

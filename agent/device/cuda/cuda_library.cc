// Empty when built without CUDA; cuda_driver.cc says so to callers.
#ifdef REPRISE_WITH_CUDA

#include "agent/device/cuda/cuda_library.h"

#include <dlfcn.h>

#include "absl/strings/str_cat.h"

namespace reprise::cuda {
namespace {

template <typename Function>
bool Find(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
  return function != nullptr;
}

}  // namespace

absl::Status Library::Load(const std::string& file) {
  void* const library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* const error = dlerror();
    return absl::UnimplementedError(
        absl::StrCat("there is no NVIDIA driver: ",
                     error == nullptr ? file.c_str() : error));
  }
// The second macro expands the names that cuda.h defines.
#define REPRISE_CUDA_STRING(name) #name
#define REPRISE_CUDA_FIND(name)                              \
  if (!Find(library, REPRISE_CUDA_STRING(name), name)) {     \
    return absl::UnimplementedError(                         \
        absl::StrCat("the NVIDIA driver is too old: ", file, \
                     " has no " REPRISE_CUDA_STRING(name))); \
  }
  REPRISE_CUDA_FUNCTIONS(REPRISE_CUDA_FIND)
#undef REPRISE_CUDA_FIND
#undef REPRISE_CUDA_STRING
  return absl::OkStatus();
}

std::string Library::Describe(CUresult result) const {
  const char* name = nullptr;
  const char* text = nullptr;
  if (cuGetErrorName(result, &name) != CUDA_SUCCESS || name == nullptr) {
    return absl::StrCat("CUDA error ", static_cast<int>(result));
  }
  if (cuGetErrorString(result, &text) != CUDA_SUCCESS || text == nullptr) {
    return name;
  }
  return absl::StrCat(name, " (", text, ")");
}

bool IsFatal(CUresult result) {
  // By number where older headers lack the name.
  constexpr int kContained = 226;
  constexpr int kTensorMemoryLeak = 721;
  switch (static_cast<int>(result)) {
    case CUDA_ERROR_DEINITIALIZED:
    case CUDA_ERROR_DEVICE_UNAVAILABLE:
    case CUDA_ERROR_ECC_UNCORRECTABLE:
    case CUDA_ERROR_NVLINK_UNCORRECTABLE:
    case kContained:
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_LAUNCH_TIMEOUT:
    case CUDA_ERROR_CONTEXT_IS_DESTROYED:
    case CUDA_ERROR_ASSERT:
    case CUDA_ERROR_HARDWARE_STACK_ERROR:
    case CUDA_ERROR_ILLEGAL_INSTRUCTION:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_INVALID_ADDRESS_SPACE:
    case CUDA_ERROR_INVALID_PC:
    case CUDA_ERROR_LAUNCH_FAILED:
    case kTensorMemoryLeak:
    case CUDA_ERROR_MPS_CLIENT_TERMINATED:
    case CUDA_ERROR_EXTERNAL_DEVICE:
      return true;
    default:
      return false;
  }
}

absl::StatusCode CodeOf(CUresult result) {
  if (IsFatal(result)) return absl::StatusCode::kUnavailable;
  switch (result) {
    case CUDA_SUCCESS:
      return absl::StatusCode::kOk;
    case CUDA_ERROR_OUT_OF_MEMORY:
      return absl::StatusCode::kResourceExhausted;
    // IPC reports a container without the peer's namespaces in several ways.
    case CUDA_ERROR_MAP_FAILED:
    case CUDA_ERROR_NOT_PERMITTED:
    case CUDA_ERROR_NOT_SUPPORTED:
    case CUDA_ERROR_OPERATING_SYSTEM:
    case CUDA_ERROR_PEER_ACCESS_UNSUPPORTED:
    case CUDA_ERROR_TOO_MANY_PEERS:
      return absl::StatusCode::kUnimplemented;
    default:
      return absl::StatusCode::kInternal;
  }
}

}  // namespace reprise::cuda

#endif

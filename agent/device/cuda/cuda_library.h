// The functions of CUDA's driver library that are used, and what its results
// mean. Needs cuda.h.

#ifndef REPRISE_AGENT_DEVICE_CUDA_CUDA_LIBRARY_H_
#define REPRISE_AGENT_DEVICE_CUDA_CUDA_LIBRARY_H_

#include <cuda.h>

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace reprise::cuda {

// All of them are in the drivers of CUDA 11.4 and later. cuda.h defines some of
// these names as macros that append the version.
#define REPRISE_CUDA_FUNCTIONS(F) \
  F(cuInit)                       \
  F(cuDriverGetVersion)           \
  F(cuGetErrorName)               \
  F(cuGetErrorString)             \
  F(cuDeviceGetCount)             \
  F(cuDeviceGet)                  \
  F(cuDeviceGetName)              \
  F(cuDeviceGetUuid)              \
  F(cuDeviceGetPCIBusId)          \
  F(cuDeviceTotalMem)             \
  F(cuDeviceGetAttribute)         \
  F(cuDeviceCanAccessPeer)        \
  F(cuDevicePrimaryCtxRetain)     \
  F(cuCtxPushCurrent)             \
  F(cuCtxPopCurrent)              \
  F(cuCtxGetCurrent)              \
  F(cuCtxSetCurrent)              \
  F(cuCtxEnablePeerAccess)        \
  F(cuMemAlloc)                   \
  F(cuMemFree)                    \
  F(cuMemHostAlloc)               \
  F(cuMemFreeHost)                \
  F(cuMemHostRegister)            \
  F(cuMemHostUnregister)          \
  F(cuPointerGetAttributes)       \
  F(cuStreamCreate)               \
  F(cuStreamDestroy)              \
  F(cuStreamSynchronize)          \
  F(cuStreamAddCallback)          \
  F(cuStreamWaitEvent)            \
  F(cuMemcpyAsync)                \
  F(cuMemcpy2DAsync)              \
  F(cuEventCreate)                \
  F(cuEventDestroy)               \
  F(cuEventRecord)                \
  F(cuEventQuery)                 \
  F(cuEventSynchronize)           \
  F(cuIpcGetMemHandle)            \
  F(cuIpcOpenMemHandle)           \
  F(cuIpcCloseMemHandle)          \
  F(cuIpcGetEventHandle)          \
  F(cuIpcOpenEventHandle)

// Stays loaded for the life of the process: the driver has threads of its own.
struct Library {
#define REPRISE_CUDA_FIELD(name) decltype(&::name) name = nullptr;
  REPRISE_CUDA_FUNCTIONS(REPRISE_CUDA_FIELD)
#undef REPRISE_CUDA_FIELD

  // UNIMPLEMENTED when the file cannot be loaded or lacks a function.
  absl::Status Load(const std::string& file);

  // "CUDA_ERROR_OUT_OF_MEMORY (out of memory)"
  std::string Describe(CUresult result) const;
};

// Whether the context in which it happened can do nothing any more.
bool IsFatal(CUresult result);

// The kind of error; OK for CUDA_SUCCESS.
absl::StatusCode CodeOf(CUresult result);

}  // namespace reprise::cuda

#endif  // REPRISE_AGENT_DEVICE_CUDA_CUDA_LIBRARY_H_

// Empty when built without CUDA.
#ifdef REPRISE_WITH_CUDA

#include "tests/unit/device/cuda/fake_cuda.h"

#include <cuda.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace {

struct State {
  std::map<std::string, CUresult> failures;
  CUresult work_result = CUDA_SUCCESS;
  int version = 13000;
  int count = 2;
  std::string log;
  std::string taken_log;
};

State& Global() {
  static State* const state = new State;
  return *state;
}

thread_local std::vector<CUcontext> contexts;

CUcontext ContextOf(int device) {
  return reinterpret_cast<CUcontext>(static_cast<intptr_t>(100 + device));
}

std::string Current() {
  if (contexts.empty() || contexts.back() == nullptr) return "-";
  return std::to_string(reinterpret_cast<intptr_t>(contexts.back()) - 100);
}

// Notes the call, and returns what it is to return.
CUresult Call(const char* name) {
  State& state = Global();
  state.log += std::string(name) + "(" + Current() + ") ";
  const auto failure = state.failures.find(name);
  return failure == state.failures.end() ? CUDA_SUCCESS : failure->second;
}

// For functions that need a context.
CUresult CallInContext(const char* name) {
  const CUresult result = Call(name);
  return Current() == "-" ? CUDA_ERROR_INVALID_CONTEXT : result;
}

template <typename T>
CUresult Give(CUresult result, T* place, T value) {
  if (result == CUDA_SUCCESS) *place = value;
  return result;
}

template <typename Handle>
Handle MakeHandle(uintptr_t number) {
  return reinterpret_cast<Handle>(number);
}

constexpr CUdeviceptr kFirstAddress = 0x10000;

}  // namespace

extern "C" {

void FakeCudaFail(const char* function, int result) {
  Global().failures[function] = static_cast<CUresult>(result);
}
void FakeCudaWorkResult(int result) {
  Global().work_result = static_cast<CUresult>(result);
}
void FakeCudaVersion(int version) { Global().version = version; }
void FakeCudaCount(int devices) { Global().count = devices; }
const char* FakeCudaTakeLog() {
  Global().taken_log = std::exchange(Global().log, "");
  return Global().taken_log.c_str();
}
int FakeCudaDepth() { return static_cast<int>(contexts.size()); }

CUresult cuInit(unsigned int) { return Call("cuInit"); }
CUresult cuDriverGetVersion(int* version) {
  *version = Global().version;
  return CUDA_SUCCESS;
}
CUresult cuGetErrorName(CUresult error, const char** name) {
  switch (error) {
    case CUDA_ERROR_OUT_OF_MEMORY:
      *name = "CUDA_ERROR_OUT_OF_MEMORY";
      return CUDA_SUCCESS;
    case CUDA_ERROR_ILLEGAL_ADDRESS:
      *name = "CUDA_ERROR_ILLEGAL_ADDRESS";
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}
CUresult cuGetErrorString(CUresult, const char** text) {
  *text = "some words";
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int* count) {
  return Give(Call("cuDeviceGetCount"), count, Global().count);
}
CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  *device = ordinal;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char* name, int size, CUdevice) {
  std::strncpy(name, "Fake GPU", static_cast<size_t>(size));
  return Call("cuDeviceGetName");
}
CUresult cuDeviceGetUuid(CUuuid* uuid, CUdevice device) {
  for (int i = 0; i < 16; ++i) uuid->bytes[i] = static_cast<char>(0xa0 + i);
  uuid->bytes[15] = static_cast<char>(device);
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetPCIBusId(char* id, int size, CUdevice device) {
  std::strncpy(id, device == 0 ? "0000:1A:00.0" : "0000:1B:00.0",
               static_cast<size_t>(size));
  return CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem(size_t* bytes, CUdevice) {
  *bytes = size_t{80} << 30;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute,
                              CUdevice) {
  *value = attribute == CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING ? 1 : 0;
  return CUDA_SUCCESS;
}
CUresult cuDeviceCanAccessPeer(int* can, CUdevice from, CUdevice) {
  *can = from == 0 ? 1 : 0;
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  return Give(Call("cuDevicePrimaryCtxRetain"), context, ContextOf(device));
}
CUresult cuCtxPushCurrent(CUcontext context) {
  contexts.push_back(context);
  return CUDA_SUCCESS;
}
CUresult cuCtxPopCurrent(CUcontext* context) {
  if (contexts.empty()) return CUDA_ERROR_INVALID_CONTEXT;
  *context = contexts.back();
  contexts.pop_back();
  return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext* context) {
  *context = contexts.empty() ? nullptr : contexts.back();
  return CUDA_SUCCESS;
}
CUresult cuCtxSetCurrent(CUcontext context) {
  if (!contexts.empty()) contexts.pop_back();
  if (context != nullptr) contexts.push_back(context);
  return CUDA_SUCCESS;
}
CUresult cuCtxEnablePeerAccess(CUcontext, unsigned int) {
  return CallInContext("cuCtxEnablePeerAccess");
}

CUresult cuMemAlloc(CUdeviceptr* memory, size_t) {
  return Give(CallInContext("cuMemAlloc"), memory, kFirstAddress);
}
CUresult cuMemFree(CUdeviceptr) { return CallInContext("cuMemFree"); }
CUresult cuMemHostAlloc(void** memory, size_t, unsigned int) {
  return Give(CallInContext("cuMemHostAlloc"), memory,
              MakeHandle<void*>(kFirstAddress));
}
CUresult cuMemFreeHost(void*) { return CallInContext("cuMemFreeHost"); }
CUresult cuMemHostRegister(void*, size_t, unsigned int) {
  return CallInContext("cuMemHostRegister");
}
CUresult cuMemHostUnregister(void*) {
  return CallInContext("cuMemHostUnregister");
}
CUresult cuPointerGetAttributes(unsigned int count, CUpointer_attribute* names,
                                void** values, CUdeviceptr pointer) {
  const CUresult result = Call("cuPointerGetAttributes");
  const bool is_known = pointer >= kFirstAddress && pointer < 2 * kFirstAddress;
  for (unsigned int i = 0; i < count; ++i) {
    const auto set = [&](auto value) {
      if (!is_known) value = 0;
      std::memcpy(values[i], &value, sizeof(value));
    };
    switch (names[i]) {
      case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
        set(static_cast<unsigned int>(pointer == kFirstAddress + 1
                                          ? CU_MEMORYTYPE_HOST
                                          : CU_MEMORYTYPE_DEVICE));
        break;
      case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
        set(1);
        break;
      case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
        set(kFirstAddress);
        break;
      case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
        set(size_t{kFirstAddress});
        break;
      case CU_POINTER_ATTRIBUTE_BUFFER_ID:
        set(static_cast<uint64_t>(77));
        break;
      case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
        set(static_cast<char>(1));
        break;
      default:
        std::abort();
    }
  }
  return result;
}

CUresult cuStreamCreate(CUstream* stream, unsigned int flags) {
  return Give(CallInContext("cuStreamCreate"), stream,
              MakeHandle<CUstream>(0x500 + flags));
}
CUresult cuStreamDestroy(CUstream) { return CallInContext("cuStreamDestroy"); }
CUresult cuStreamSynchronize(CUstream) {
  return CallInContext("cuStreamSynchronize");
}
CUresult cuStreamAddCallback(CUstream stream, CUstreamCallback callback,
                             void* data, unsigned int) {
  const CUresult result = CallInContext("cuStreamAddCallback");
  if (result == CUDA_SUCCESS ||
      Global().failures["cuStreamAddCallback!"] != CUDA_SUCCESS) {
    callback(stream, Global().work_result, data);
  }
  return result;
}
CUresult cuStreamWaitEvent(CUstream, CUevent, unsigned int) {
  return CallInContext("cuStreamWaitEvent");
}
CUresult cuMemcpyAsync(CUdeviceptr, CUdeviceptr, size_t, CUstream) {
  return CallInContext("cuMemcpyAsync");
}
// "cuMemcpy2DAsync 4x2 at 0(1)": its size, and where it goes.
CUresult cuMemcpy2DAsync(const CUDA_MEMCPY2D* copy, CUstream) {
  if (copy->srcPitch != copy->WidthInBytes ||
      copy->dstPitch != copy->WidthInBytes ||
      copy->srcMemoryType != CU_MEMORYTYPE_UNIFIED ||
      copy->dstMemoryType != CU_MEMORYTYPE_UNIFIED) {
    std::abort();
  }
  const std::string size = " " + std::to_string(copy->WidthInBytes) + "x" +
                           std::to_string(copy->Height) + " at " +
                           std::to_string(copy->dstDevice - kFirstAddress);
  return CallInContext(("cuMemcpy2DAsync" + size).c_str());
}

CUresult cuEventCreate(CUevent* event, unsigned int flags) {
  return Give(CallInContext("cuEventCreate"), event,
              MakeHandle<CUevent>(0x700 + flags));
}
CUresult cuEventDestroy(CUevent) { return CallInContext("cuEventDestroy"); }
CUresult cuEventRecord(CUevent, CUstream) {
  return CallInContext("cuEventRecord");
}
CUresult cuEventQuery(CUevent) { return CallInContext("cuEventQuery"); }
CUresult cuEventSynchronize(CUevent) {
  return CallInContext("cuEventSynchronize");
}

CUresult cuIpcGetMemHandle(CUipcMemHandle* handle, CUdeviceptr) {
  std::memset(handle, 'm', sizeof(*handle));
  return CallInContext("cuIpcGetMemHandle");
}
CUresult cuIpcOpenMemHandle(CUdeviceptr* memory, CUipcMemHandle handle,
                            unsigned int) {
  const CUresult result = CallInContext("cuIpcOpenMemHandle");
  if (handle.reserved[63] != 'm') return CUDA_ERROR_INVALID_VALUE;
  return Give(result, memory, kFirstAddress);
}
CUresult cuIpcCloseMemHandle(CUdeviceptr) {
  return CallInContext("cuIpcCloseMemHandle");
}
CUresult cuIpcGetEventHandle(CUipcEventHandle* handle, CUevent) {
  std::memset(handle, 'e', sizeof(*handle));
  return CallInContext("cuIpcGetEventHandle");
}
CUresult cuIpcOpenEventHandle(CUevent* event, CUipcEventHandle handle) {
  const CUresult result = CallInContext("cuIpcOpenEventHandle");
  if (handle.reserved[63] != 'e') return CUDA_ERROR_INVALID_HANDLE;
  return Give(result, event, MakeHandle<CUevent>(0x900));
}

}  // extern "C"

#endif

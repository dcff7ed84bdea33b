#include "agent/device/dlpack.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

// kDLBool, which DLPack has since version 0.8, and what it has since 1.1:
// kDLFloat8_e4m3fn, _e4m3fnuz, _e5m2, _e5m2fnuz, _e8m0fnu.
constexpr uint8_t kBoolCode = 6;
constexpr uint8_t kE4M3FNCode = 10;
constexpr uint8_t kE4M3FNUZCode = 11;
constexpr uint8_t kE5M2Code = 12;
constexpr uint8_t kE5M2FNUZCode = 13;
constexpr uint8_t kE8M0FNUCode = 14;
// As many as PyTorch takes.
constexpr int kMaxDimensions = 64;

struct TypeRow {
  DType dtype;
  uint8_t code;
  uint8_t bits;
};

constexpr TypeRow kTypes[] = {
    {DType::kUInt8, kDLUInt, 8},
    {DType::kInt8, kDLInt, 8},
    {DType::kInt16, kDLInt, 16},
    {DType::kInt32, kDLInt, 32},
    {DType::kInt64, kDLInt, 64},
    {DType::kFloat16, kDLFloat, 16},
    {DType::kFloat32, kDLFloat, 32},
    {DType::kFloat64, kDLFloat, 64},
    {DType::kComplex64, kDLComplex, 64},
    {DType::kComplex128, kDLComplex, 128},
    {DType::kBool, kBoolCode, 8},
    {DType::kBFloat16, kDLBfloat, 16},
    {DType::kComplex32, kDLComplex, 32},
    {DType::kUInt16, kDLUInt, 16},
    {DType::kUInt32, kDLUInt, 32},
    {DType::kUInt64, kDLUInt, 64},
    {DType::kFloat8E5M2, kE5M2Code, 8},
    {DType::kFloat8E4M3FN, kE4M3FNCode, 8},
    {DType::kFloat8E5M2FNUZ, kE5M2FNUZCode, 8},
    {DType::kFloat8E4M3FNUZ, kE4M3FNUZCode, 8},
    {DType::kFloat8E8M0FNU, kE8M0FNUCode, 8},
};

template <typename... Words>
absl::Status Refuse(const Words&... words) {
  return absl::InvalidArgumentError(absl::StrCat("DLPack: ", words...));
}

absl::StatusOr<DType> TypeOf(const DLDataType& type) {
  for (const TypeRow& row : kTypes) {
    if (type.code == row.code && type.bits == row.bits && type.lanes == 1) {
      return row.dtype;
    }
  }
  return Refuse("a type of code ", type.code, " with ", type.bits, " bits and ",
                type.lanes, " lanes is not supported");
}

// What an exported tensor owns.
struct Exported {
  DLManagedTensor managed = {};
  Tensor tensor;

  static void Delete(DLManagedTensor* managed) {
    if (managed != nullptr) delete static_cast<Exported*>(managed->manager_ctx);
  }
};

// The device of the tensor, if its memory can be taken.
absl::StatusOr<Device> DeviceOf(const DLTensor& tensor, const void* data,
                                Devices* devices) {
  const int type = tensor.device.device_type;
  if (type == kDLCPU || type == kDLCUDAHost) return CpuDevice();
  if (type != kDLCUDA) {
    return Refuse("devices of type ", type, " are not supported");
  }
  const Device device = GpuDevice(tensor.device.device_id);
  if (devices == nullptr) {
    return Refuse("the tensor is on ", device.ToString(),
                  ", and only those of CPUs are taken here");
  }
  if (absl::Status status = devices->Check(device); !status.ok()) return status;
  if (data == nullptr) return device;
  const auto found = devices->gpu_driver()->FindAllocation(data);
  if (!found.ok()) {
    if (!absl::IsNotFound(found.status())) return found.status();
    return Refuse("the tensor says that it is on ", device.ToString(),
                  ", and its data is in no memory of a GPU");
  }
  if (found->device != device.index) {
    return Refuse("the tensor says that it is on ", device.ToString(),
                  ", and its data is on cuda:", found->device);
  }
  return device;
}

// Sets sizes and strides, and returns the bytes from the first element to the
// last.
absl::StatusOr<size_t> ReadShape(const DLTensor& from, Tensor& tensor) {
  if (from.ndim < 0 || from.ndim > kMaxDimensions) {
    return Refuse("a tensor has 0 to ", kMaxDimensions, " dimensions, and not ",
                  from.ndim);
  }
  if (from.ndim > 0 && from.shape == nullptr) return Refuse("no shape");
  tensor.sizes.assign(from.shape, from.shape + from.ndim);
  tensor.strides.resize(tensor.sizes.size());
  int64_t compact = 1;  // stride of the dimension
  int64_t last = 0;     // the last element
  bool is_empty = false;
  for (int i = from.ndim; i-- > 0;) {
    const int64_t size = tensor.sizes[i];
    const int64_t stride = from.strides == nullptr ? compact : from.strides[i];
    if (size < 0 || stride < 0) {
      return Refuse("dimension ", i, " has size ", size, " and stride ", stride,
                    ", and neither may be negative");
    }
    tensor.strides[i] = stride;
    is_empty |= size == 0;
    const int64_t at_least_1 = std::max<int64_t>(size, 1);
    int64_t extent;
    if (__builtin_mul_overflow(compact, at_least_1, &compact) ||
        __builtin_mul_overflow(at_least_1 - 1, stride, &extent) ||
        __builtin_add_overflow(last, extent, &last)) {
      return Refuse("the sizes overflow");
    }
  }
  if (is_empty) return 0;
  int64_t num_bytes;
  if (__builtin_add_overflow(last, 1, &num_bytes) ||
      __builtin_mul_overflow(
          num_bytes, static_cast<int64_t>(SizeOf(tensor.dtype)), &num_bytes)) {
    return Refuse("the sizes overflow");
  }
  return static_cast<size_t>(num_bytes);
}

absl::StatusOr<Tensor> Import(DLManagedTensor* managed, Devices* devices) {
  const DLTensor& from = managed->dl_tensor;
  Tensor tensor;
  const absl::StatusOr<DType> dtype = TypeOf(from.dtype);
  if (!dtype.ok()) return dtype.status();
  tensor.dtype = *dtype;
  const absl::StatusOr<size_t> num_bytes = ReadShape(from, tensor);
  if (!num_bytes.ok()) return num_bytes.status();
  uintptr_t address = 0;
  if (*num_bytes > 0) {
    uintptr_t end;
    if (from.data == nullptr) return Refuse("no data");
    if (__builtin_add_overflow(reinterpret_cast<uintptr_t>(from.data),
                               from.byte_offset, &address) ||
        __builtin_add_overflow(address, *num_bytes, &end)) {
      return Refuse("the data goes beyond the last address");
    }
  }
  void* const data = reinterpret_cast<void*>(address);
  const absl::StatusOr<Device> device = DeviceOf(from, data, devices);
  if (!device.ok()) return device.status();
  auto deleter = [managed](void* /*data*/) {
    if (managed->deleter != nullptr) managed->deleter(managed);
  };
  // Nothing fails from here on, so the deleter is called only by a storage that
  // was handed out.
  tensor.storage =
      *device == CpuDevice()
          ? AdoptCpu(data, *num_bytes, std::move(deleter))
          : devices->gpu_memory()->Adopt(device->index, data, *num_bytes,
                                         std::move(deleter));
  return tensor;
}

}  // namespace

absl::StatusOr<DLManagedTensor*> ToDlpack(const Tensor& tensor) {
  if (absl::Status status = CheckBounds(tensor); !status.ok()) return status;
  const Device& device = tensor.storage->device();
  const bool is_cpu = device == CpuDevice();
  if (!is_cpu && device.type != kGpuDeviceType) {
    return Refuse("tensors on ", device.ToString(), " are not supported");
  }
  const TypeRow& type = *std::find_if(
      std::begin(kTypes), std::end(kTypes),
      [&](const TypeRow& row) { return row.dtype == tensor.dtype; });
  std::unique_ptr<Exported> exported;
  try {
    exported = std::make_unique<Exported>();
    exported->tensor = tensor;
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("DLPack: no memory for a view");
  }
  DLTensor& view = exported->managed.dl_tensor;
  if (tensor.num_elements() > 0) {
    view.data =
        static_cast<char*>(tensor.storage->data()) +
        static_cast<size_t>(tensor.storage_offset) * SizeOf(tensor.dtype);
  }
  view.device = {is_cpu ? kDLCPU : kDLCUDA, device.index};
  view.ndim = static_cast<int>(tensor.sizes.size());
  view.dtype = {type.code, type.bits, /*lanes=*/1};
  view.shape = exported->tensor.sizes.data();
  view.strides = exported->tensor.strides.data();
  view.byte_offset = 0;
  exported->managed.manager_ctx = exported.get();
  exported->managed.deleter = &Exported::Delete;
  return &exported.release()->managed;
}

absl::StatusOr<Tensor> FromDlpack(DLManagedTensor* managed, Devices* devices) {
  if (managed == nullptr) return Refuse("no tensor");
  try {
    return Import(managed, devices);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("DLPack: no memory for a tensor");
  }
}

}  // namespace reprise

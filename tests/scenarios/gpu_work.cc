#include "tests/scenarios/gpu_work.h"

#include <cstring>
#include <memory>
#include <utility>

namespace reprise::scenarios {
namespace {

char* DataOf(const Tensor& tensor) {
  return static_cast<char*>(tensor.storage->data()) + tensor.storage_offset;
}

bool IsOnGpu(const Storage& storage) {
  return storage.device().type == kGpuDeviceType;
}

}  // namespace

std::string BytesOf(uint64_t tag, int64_t num_bytes) {
  std::string bytes(static_cast<size_t>(num_bytes), '\0');
  uint64_t word = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i % sizeof(word) == 0) word = HashCombine(tag, i);
    bytes[i] = static_cast<char>(word >> (8 * (i % sizeof(word))));
  }
  return bytes;
}

std::string Turned(std::string_view bytes, int64_t by) {
  if (bytes.empty()) return "";
  const size_t last = static_cast<size_t>(by) % bytes.size();
  std::string turned(bytes.substr(bytes.size() - last));
  turned += bytes.substr(0, bytes.size() - last);
  return turned;
}

std::vector<std::string> DrawGpuChannels(Draws random) {
  std::vector<std::string> channels = {"basic"};
  // Two workers of a host must often have no better one than cuda_host.
  const bool shares_memory = !random.OneIn("shares no memory", 3);
  if (!random.OneIn("without cuda_xth", 3)) channels.emplace_back("cuda_xth");
  for (const char* name : {"cuda_direct", "cuda_ipc"}) {
    if (shares_memory && !random.OneIn("without the next", 3))
      channels.emplace_back(name);
  }
  if (!shares_memory || !random.OneIn("without cuda_host", 3))
    channels.emplace_back("cuda_host");
  channels.emplace_back("cuda_basic");
  return channels;
}

GpuWork::GpuWork(Worker& worker)
    : devices_(*worker.environment().devices),
      mutex_(worker.runtime(), "GpuWork") {}

GpuWork::~GpuWork() {
  std::vector<GpuStream> streams;
  {
    MutexLock lock(mutex_);
    streams = streams_;
  }
  for (const GpuStream stream : streams) {
    devices_.gpu_driver()->DestroyStream(stream);
  }
}

absl::StatusOr<GpuStream> GpuWork::NewStream(int device) {
  absl::StatusOr<GpuStream> stream =
      devices_.gpu_driver()->CreateStream(device);
  if (stream.ok()) {
    MutexLock lock(mutex_);
    streams_.push_back(*stream);
  }
  return stream;
}

absl::Status GpuWork::KeepBusy(GpuStream stream, int64_t num_copies) {
  constexpr size_t kBytes = 512;
  const auto memory = devices_.gpu_memory()->Allocate(stream, 2 * kBytes);
  if (!memory.ok()) return memory.status();
  char* const data = static_cast<char*>((*memory)->data());
  for (; num_copies > 0; --num_copies) {
    const bool there = num_copies % 2 == 0;
    absl::Status status = devices_.gpu_driver()->Copy(
        data + (there ? kBytes : 0), data + (there ? 0 : kBytes), kBytes,
        stream);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status GpuWork::Copy(const Storage& to, char* to_data,
                           const Storage& from, const char* from_data,
                           int64_t num_bytes, GpuStream stream) {
  if (num_bytes == 0) return absl::OkStatus();
  const auto size = static_cast<size_t>(num_bytes);
  if (IsOnGpu(to) || IsOnGpu(from)) {
    return devices_.gpu_driver()->Copy(to_data, from_data, size, stream);
  }
  std::memcpy(to_data, from_data, size);
  return absl::OkStatus();
}

absl::StatusOr<Tensor> GpuWork::Make(const Device& device, GpuStream stream,
                                     std::string_view bytes) {
  const auto size = static_cast<int64_t>(bytes.size());
  Tensor tensor{.dtype = DType::kUInt8,
                .sizes = {size},
                .strides = {1},
                .storage = nullptr};
  auto storage = devices_.Allocate(device, bytes.size(), Only(stream));
  if (!storage.ok()) return storage.status();
  tensor.storage = *std::move(storage);
  absl::Status status = Write(tensor, stream, bytes);
  if (!status.ok()) return status;
  return tensor;
}

absl::Status GpuWork::Write(const Tensor& tensor, GpuStream stream,
                            std::string_view bytes) {
  if (bytes.empty()) return absl::OkStatus();
  if (!IsOnGpu(*tensor.storage)) {
    std::memcpy(DataOf(tensor), bytes.data(), bytes.size());
    return absl::OkStatus();
  }
  // Pinned, so that the call does not wait.
  const auto pinned = devices_.gpu_memory()->AllocatePinned(bytes.size());
  if (!pinned.ok()) return pinned.status();
  std::memcpy((*pinned)->data(), bytes.data(), bytes.size());
  (*pinned)->RecordUse(stream);
  tensor.storage->RecordUse(stream);
  return devices_.gpu_driver()->Copy(DataOf(tensor), (*pinned)->data(),
                                     bytes.size(), stream);
}

absl::StatusOr<Tensor> GpuWork::Turn(const Tensor& tensor, const Device& device,
                                     GpuStream stream, int64_t by) {
  const int64_t size = tensor.num_elements();
  Tensor turned{.dtype = DType::kUInt8,
                .sizes = {size},
                .strides = {1},
                .storage = nullptr};
  auto storage =
      devices_.Allocate(device, static_cast<size_t>(size), Only(stream));
  if (!storage.ok()) return storage.status();
  turned.storage = *std::move(storage);
  if (size == 0) return turned;
  if (IsOnGpu(*tensor.storage)) tensor.storage->RecordUse(stream);
  if (IsOnGpu(*turned.storage)) turned.storage->RecordUse(stream);
  by %= size;
  absl::Status status =
      Copy(*turned.storage, DataOf(turned) + by, *tensor.storage,
           DataOf(tensor), size - by, stream);
  if (status.ok()) {
    status = Copy(*turned.storage, DataOf(turned), *tensor.storage,
                  DataOf(tensor) + (size - by), by, stream);
  }
  if (!status.ok()) return status;
  return turned;
}

absl::StatusOr<std::string> GpuWork::Read(const Tensor& tensor,
                                          GpuStream stream) {
  Storage& storage = *tensor.storage;
  const char* data = static_cast<const char*>(storage.data());
  std::shared_ptr<Storage> pinned;
  if (IsOnGpu(storage) && storage.num_bytes() > 0) {
    auto allocated = devices_.gpu_memory()->AllocatePinned(storage.num_bytes());
    if (!allocated.ok()) return allocated.status();
    pinned = *std::move(allocated);
    pinned->RecordUse(stream);
    storage.RecordUse(stream);
    absl::Status status = devices_.gpu_driver()->Copy(
        pinned->data(), data, storage.num_bytes(), stream);
    if (status.ok()) status = devices_.gpu_driver()->Synchronize(stream);
    if (!status.ok()) return status;
    data = static_cast<const char*>(pinned->data());
  }
  std::string elements;
  const size_t dimensions = tensor.sizes.size();
  std::vector<int64_t> index(dimensions);
  for (int64_t left = tensor.num_elements(); left > 0; --left) {
    int64_t at = tensor.storage_offset;
    for (size_t i = 0; i < dimensions; ++i) at += index[i] * tensor.strides[i];
    elements += data[at];
    for (size_t i = dimensions; i > 0; --i) {
      if (++index[i - 1] < tensor.sizes[i - 1]) break;
      index[i - 1] = 0;
    }
  }
  return elements;
}

}  // namespace reprise::scenarios

#include "tests/gpu/gpu.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/device/cuda/cuda_driver.h"
#include "agent/runtime/runtime.h"
#include "tests/unit/transport/cuda/fake_gpus.h"

namespace reprise::gpu {
namespace {

constexpr size_t kStagingBytes = size_t{32} << 20;
constexpr size_t kLargestTensor = size_t{1} << 30;
constexpr size_t kLargestFakeTensor = size_t{9} << 20;
// The driver queues about 1,000 operations before the host has to wait, so each
// must take long.
constexpr size_t kBusyBytes = size_t{512} << 20;
constexpr size_t kFakeBusyBytes = size_t{1} << 20;
constexpr int kMostBusyCopies = 600;

GpuDriver& FakeGpu() {
  static FakeGpus* const machine = new FakeGpus(1);
  static FakeDriver* const driver = [] {
    auto* const made = new FakeDriver(*machine);
    made->set_can_share(false);
    return made;
  }();
  return *driver;
}

// Of the 8 bytes at `at`, which is a multiple of 8.
uint64_t Word(uint64_t seed, size_t at) {
  const uint64_t word =
      (seed * 0x2545'f491'4f6c'dd1d + at + 1) * 0x9e37'79b9'7f4a'7c15;
  return word ^ word >> 29;
}

void FillHost(char* to, uint64_t seed, size_t from, size_t num_bytes) {
  for (size_t at = 0; at < num_bytes; at += sizeof(uint64_t)) {
    const uint64_t word = Word(seed, from + at);
    std::memcpy(to + at, &word, std::min(sizeof(word), num_bytes - at));
  }
}

absl::Status CompareHost(const char* got, uint64_t seed, size_t from,
                         size_t num_bytes) {
  for (size_t at = 0; at < num_bytes; at += sizeof(uint64_t)) {
    const uint64_t word = Word(seed, from + at);
    const size_t length = std::min(sizeof(word), num_bytes - at);
    if (std::memcmp(got + at, &word, length) != 0) {
      return absl::DataLossError(absl::StrCat("the bytes from ", from + at,
                                              " on are not those of ", seed));
    }
  }
  return absl::OkStatus();
}

}  // namespace

StreamSet Only(GpuStream stream) {
  StreamSet streams;
  streams.Set(stream);
  return streams;
}

absl::StatusOr<std::unique_ptr<Gpu>> Gpu::Find(bool is_fake) {
  absl::StatusOr<GpuDriver*> driver = is_fake ? &FakeGpu() : FindCudaDriver();
  if (!driver.ok()) return driver.status();
  auto devices = std::make_unique<Devices>(RealRuntime(), driver);
  absl::StatusOr<std::shared_ptr<Storage>> staging =
      devices->gpu_memory()->AllocatePinned(kStagingBytes);
  if (!staging.ok()) return staging.status();
  std::unique_ptr<Gpu> gpu(new Gpu(std::move(devices), is_fake));
  gpu->staging_ = *std::move(staging);
  return gpu;
}

Gpu::Gpu(std::unique_ptr<Devices> devices, bool is_fake)
    : devices_(std::move(devices)), is_fake_(is_fake) {}

Gpu::~Gpu() = default;

size_t Gpu::LargestTensor() const {
  if (is_fake_) return kLargestFakeTensor;
  const size_t memory = devices_->gpu_driver()->properties(0).memory_bytes;
  return std::min(kLargestTensor, memory / 16);
}

GpuStream Gpu::NewStream() {
  const absl::StatusOr<StreamSet> streams = devices_->gpu_streams()->Next({0});
  return streams.ok() ? streams->On(0) : GpuStream();
}

absl::StatusOr<std::shared_ptr<Storage>> Gpu::Make(size_t num_bytes,
                                                   uint64_t seed) {
  const GpuStream stream = NewStream();
  auto storage = devices_->Allocate(FirstGpu(), num_bytes, Only(stream));
  if (!storage.ok()) return storage.status();
  absl::Status filled = Fill(**storage, seed, stream);
  if (!filled.ok()) return filled;
  return storage;
}

absl::Status Gpu::Fill(Storage& storage, uint64_t seed, GpuStream stream) {
  const std::lock_guard lock(mutex_);
  char* const staging = static_cast<char*>(staging_->data());
  char* const to = static_cast<char*>(storage.data());
  for (size_t at = 0; at < storage.num_bytes(); at += kStagingBytes) {
    const size_t length = std::min(kStagingBytes, storage.num_bytes() - at);
    FillHost(staging, seed, at, length);
    absl::Status status = driver().Copy(to + at, staging, length, stream);
    if (status.ok()) status = driver().Synchronize(stream);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Gpu::Compare(Storage& storage, size_t offset, size_t num_bytes,
                          uint64_t seed, GpuStream stream) {
  if (offset + num_bytes > storage.num_bytes()) {
    return absl::DataLossError(
        absl::StrCat("there are only ", storage.num_bytes(), " bytes"));
  }
  const std::lock_guard lock(mutex_);
  char* const staging = static_cast<char*>(staging_->data());
  const char* const from = static_cast<char*>(storage.data()) + offset;
  for (size_t at = 0; at < num_bytes; at += kStagingBytes) {
    const size_t length = std::min(kStagingBytes, num_bytes - at);
    absl::Status status = driver().Copy(staging, from + at, length, stream);
    if (status.ok()) status = driver().Synchronize(stream);
    if (status.ok()) status = CompareHost(staging, seed, at, length);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Gpu::PrepareBusyWork(GpuStream stream) {
  if (busy_to_ != nullptr) return absl::OkStatus();
  const size_t num_bytes =
      is_fake_ ? kFakeBusyBytes : std::min(kBusyBytes, LargestTensor());
  auto from = devices_->Allocate(FirstGpu(), num_bytes, Only(stream));
  if (!from.ok()) return from.status();
  auto to = devices_->Allocate(FirstGpu(), num_bytes, Only(stream));
  if (!to.ok()) return to.status();
  busy_from_ = *from;
  busy_to_ = *to;
  constexpr int kTrials = 8;
  absl::Time start;
  for (int i = 0; i <= kTrials; ++i) {
    absl::Status status =
        driver().Copy(busy_to_->data(), busy_from_->data(), num_bytes, stream);
    // The first one is no measure.
    if (status.ok() && (i == 0 || i == kTrials)) {
      status = driver().Synchronize(stream);
    }
    if (!status.ok()) return status;
    if (i == 0) start = RealRuntime().Now();
  }
  busy_copy_ =
      std::max((RealRuntime().Now() - start) / kTrials, absl::Microseconds(10));
  return absl::OkStatus();
}

absl::Status Gpu::KeepBusy(GpuStream stream, absl::Duration duration) {
  const std::lock_guard lock(busy_mutex_);
  absl::Status status = PrepareBusyWork(stream);
  if (!status.ok()) return status;
  busy_from_->RecordUse(stream);
  busy_to_->RecordUse(stream);
  const double wanted = std::ceil(absl::FDivDuration(duration, busy_copy_));
  const int num_copies =
      std::min(kMostBusyCopies, std::max(1, static_cast<int>(wanted)));
  for (int i = 0; i < num_copies && status.ok(); ++i) {
    status = driver().Copy(busy_to_->data(), busy_from_->data(),
                           busy_to_->num_bytes(), stream);
  }
  return status;
}

absl::StatusOr<bool> Gpu::IsBusy(GpuStream stream) {
  absl::StatusOr<GpuEvent> event = devices_->gpu_streams()->Record(stream);
  if (!event.ok()) return event.status();
  const absl::StatusOr<bool> is_done = driver().IsDone(*event);
  devices_->gpu_streams()->Release(*event);
  if (!is_done.ok()) return is_done.status();
  return !*is_done;
}

}  // namespace reprise::gpu

#include "agent/device/device.h"

#include <cstdint>
#include <new>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

constexpr auto kAlignment = std::align_val_t{kCpuAlignment};

struct OperatorDelete {
  void operator()(void* memory) const { ::operator delete(memory, kAlignment); }
};
using Memory = std::unique_ptr<void, OperatorDelete>;

class OwnedCpuStorage final : public Storage {
 public:
  OwnedCpuStorage(Memory memory, size_t num_bytes)
      : memory_(std::move(memory)), num_bytes_(num_bytes) {}

  const Device& device() const override { return CpuDevice(); }
  void* data() override { return memory_.get(); }
  size_t num_bytes() const override { return num_bytes_; }

 private:
  const Memory memory_;
  const size_t num_bytes_;
};

class BorrowedCpuStorage final : public Storage {
 public:
  BorrowedCpuStorage(void* data, size_t num_bytes)
      : data_(num_bytes == 0 ? nullptr : data), num_bytes_(num_bytes) {}

  const Device& device() const override { return CpuDevice(); }
  void* data() override { return data_; }
  size_t num_bytes() const override { return num_bytes_; }
  bool owns_memory() const override { return false; }

 private:
  void* const data_;
  const size_t num_bytes_;
};

class AdoptedCpuStorage final : public Storage {
 public:
  AdoptedCpuStorage(void* data, size_t num_bytes,
                    absl::AnyInvocable<void(void*)> deleter)
      : data_(data), num_bytes_(num_bytes), deleter_(std::move(deleter)) {}
  ~AdoptedCpuStorage() override {
    if (deleter_) deleter_(data_);
  }

  const Device& device() const override { return CpuDevice(); }
  void* data() override { return num_bytes_ == 0 ? nullptr : data_; }
  size_t num_bytes() const override { return num_bytes_; }

 private:
  void* const data_;
  const size_t num_bytes_;
  absl::AnyInvocable<void(void*)> deleter_;
};

}  // namespace

const Device& CpuDevice() {
  static const Device cpu;
  return cpu;
}

Device GpuDevice(int index) {
  return Device{std::string(kGpuDeviceType), index};
}

absl::StatusOr<std::shared_ptr<Storage>> AllocateCpu(size_t num_bytes) {
  // No object is larger than PTRDIFF_MAX, whatever the allocator would say.
  if (num_bytes <= PTRDIFF_MAX) {
    Memory memory(num_bytes == 0
                      ? nullptr
                      : ::operator new(num_bytes, kAlignment, std::nothrow));
    if (num_bytes == 0 || memory != nullptr) {
      try {
        return std::make_shared<OwnedCpuStorage>(std::move(memory), num_bytes);
      } catch (const std::bad_alloc&) {
        // Reported below.
      }
    }
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("cannot allocate ", num_bytes, " bytes of CPU memory"));
}

std::shared_ptr<Storage> BorrowCpu(void* data, size_t num_bytes) {
  return std::make_shared<BorrowedCpuStorage>(data, num_bytes);
}

std::shared_ptr<Storage> AdoptCpu(
    void* data, size_t num_bytes,
    absl::AnyInvocable<void(void* data)> deleter) {
  return std::make_shared<AdoptedCpuStorage>(data, num_bytes,
                                             std::move(deleter));
}

}  // namespace reprise

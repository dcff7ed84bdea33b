#include "agent/device/gpu_memory.h"

#include <algorithm>
#include <list>
#include <new>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "agent/device/gpu_memory_heap.h"
#include "agent/runtime/mutex.h"

namespace reprise {
namespace {

// The streams that use a storage.
class Users {
 public:
  explicit Users(Runtime& runtime) : mutex_(runtime, "GpuMemory storage") {}

  // Makes room in `uses` for an event on each of them, so that letting go of
  // the storage takes no memory.
  void Add(const GpuStream& stream, std::vector<BlockUse>& uses) {
    MutexLock lock(mutex_);
    if (std::find(streams_.begin(), streams_.end(), stream) != streams_.end()) {
      return;
    }
    streams_.push_back(stream);
    uses.reserve(streams_.size());
  }

  const std::vector<GpuStream>& streams() {
    MutexLock lock(mutex_);
    return streams_;
  }

 private:
  Mutex mutex_;
  std::vector<GpuStream> streams_ ABSL_GUARDED_BY(mutex_);
};

absl::Status NoMemory(size_t num_bytes) {
  return absl::ResourceExhaustedError(
      absl::StrCat("cannot allocate ", num_bytes, " bytes"));
}

}  // namespace

class GpuMemory::BlockStorage final : public Storage {
 public:
  BlockStorage(std::shared_ptr<Heap> heap, Pool& pool, Device device,
               size_t num_bytes)
      : heap_(std::move(heap)),
        pool_(pool),
        device_(std::move(device)),
        num_bytes_(num_bytes),
        users_(heap_->runtime()) {}
  ~BlockStorage() override {
    if (block_.memory != nullptr) {
      pool_.Return(std::move(block_), users_.streams());
    }
    heap_->Poll();
  }

  // For work on `stream`, which memory of the host does not have.
  absl::Status Fill(const GpuStream* stream) {
    if (num_bytes_ == 0) return absl::OkStatus();
    absl::StatusOr<Block> block = pool_.Take(num_bytes_, stream);
    if (!block.ok()) return block.status();
    block_ = *std::move(block);
    if (stream != nullptr) RecordUse(*stream);
    return absl::OkStatus();
  }

  const Device& device() const override { return device_; }
  void* data() override { return block_.memory; }
  size_t num_bytes() const override { return num_bytes_; }
  void RecordUse(const GpuStream& stream) override {
    if (num_bytes_ != 0) users_.Add(stream, block_.uses);
  }

 private:
  const std::shared_ptr<Heap> heap_;
  Pool& pool_;
  const Device device_;
  const size_t num_bytes_;
  Block block_;
  Users users_;
};

class GpuMemory::AdoptedStorage final : public Storage {
 public:
  AdoptedStorage(std::shared_ptr<Heap> heap, int device, void* data,
                 size_t num_bytes, absl::AnyInvocable<void(void*)> deleter)
      : heap_(std::move(heap)),
        device_(GpuDevice(device)),
        data_(data),
        num_bytes_(num_bytes),
        deletion_(1),
        users_(heap_->runtime()) {
    deletion_.front().deleter = std::move(deleter);
    deletion_.front().data = data;
  }
  ~AdoptedStorage() override {
    if (deletion_.front().deleter == nullptr) deletion_.clear();
    heap_->Delete(std::move(deletion_), users_.streams());
  }

  const Device& device() const override { return device_; }
  void* data() override { return num_bytes_ == 0 ? nullptr : data_; }
  size_t num_bytes() const override { return num_bytes_; }
  void RecordUse(const GpuStream& stream) override {
    users_.Add(stream, deletion_.front().uses);
  }

 private:
  const std::shared_ptr<Heap> heap_;
  const Device device_;
  void* const data_;
  const size_t num_bytes_;
  std::list<Heap::Deletion> deletion_;  // one
  Users users_;
};

GpuMemory::GpuMemory(Runtime& runtime, std::shared_ptr<GpuStreams> streams,
                     const Options& options)
    : heap_(std::make_shared<Heap>(runtime, std::move(streams), options)) {}

GpuMemory::~GpuMemory() = default;

absl::StatusOr<std::shared_ptr<Storage>> GpuMemory::Allocate(GpuStream stream,
                                                             size_t num_bytes) {
  heap_->Poll();
  absl::Status status = heap_->streams().Check(stream.device);
  if (!status.ok()) return status;
  try {
    auto storage =
        std::make_shared<BlockStorage>(heap_, *heap_->pool(stream.device),
                                       GpuDevice(stream.device), num_bytes);
    status = storage->Fill(&stream);
    if (!status.ok()) return status;
    return storage;
  } catch (const std::bad_alloc&) {
    return NoMemory(num_bytes);
  }
}

absl::StatusOr<std::shared_ptr<Storage>> GpuMemory::AllocatePinned(
    size_t num_bytes) {
  heap_->Poll();
  try {
    auto storage = std::make_shared<BlockStorage>(heap_, heap_->pinned(),
                                                  CpuDevice(), num_bytes);
    absl::Status status = storage->Fill(nullptr);
    if (!status.ok()) return status;
    return storage;
  } catch (const std::bad_alloc&) {
    return NoMemory(num_bytes);
  }
}

std::shared_ptr<Storage> GpuMemory::Adopt(
    int device, void* data, size_t num_bytes,
    absl::AnyInvocable<void(void* data)> deleter) {
  return std::make_shared<AdoptedStorage>(heap_, device, data, num_bytes,
                                          std::move(deleter));
}

bool GpuMemory::Poll() { return heap_->Poll(); }

void GpuMemory::Trim() { heap_->Trim(); }

GpuMemory::Stats GpuMemory::stats(int device) const {
  Pool* const pool = heap_->pool(device);
  return pool == nullptr ? Stats() : pool->stats();
}

GpuMemory::Stats GpuMemory::pinned_stats() const {
  return heap_->pinned().stats();
}

}  // namespace reprise

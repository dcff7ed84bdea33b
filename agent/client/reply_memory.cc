#include "agent/client/reply_memory.h"

#include <cstddef>
#include <cstring>
#include <new>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "agent/call_error.h"

namespace reprise {
namespace {

// The beginning of a storage.
class PartOfStorage final : public Storage {
 public:
  PartOfStorage(std::shared_ptr<Storage> whole, size_t num_bytes)
      : whole_(std::move(whole)), num_bytes_(num_bytes) {}

  const Device& device() const override { return whole_->device(); }
  void* data() override { return num_bytes_ == 0 ? nullptr : whole_->data(); }
  size_t num_bytes() const override { return num_bytes_; }
  bool owns_memory() const override { return whole_->owns_memory(); }

 private:
  const std::shared_ptr<Storage> whole_;
  const size_t num_bytes_;
};

template <typename... Parts>
absl::Status DoesNotFit(const Parts&... parts) {
  return WithCallError(
      absl::ResourceExhaustedError(absl::StrCat(
          "its tensors do not fit into CallOptions::receive_into: ", parts...)),
      {.source = CallErrorSource::kCaller,
       .may_have_run = true,
       .retry_may_help = false});
}

}  // namespace

class ReplyMemory::Writer final : public CpuAllocator {
 public:
  explicit Writer(std::shared_ptr<ReplyMemory> memory)
      : memory_(std::move(memory)) {}
  ~Writer() override { memory_->is_claimed_ = false; }

  absl::StatusOr<std::shared_ptr<Storage>> Allocate(size_t num_bytes) override {
    const size_t index = next_++;
    const auto& storages = memory_->into_.storages;
    if (index >= storages.size()) {
      return DoesNotFit("there is memory for ", storages.size(),
                        " storages, and the reply has more");
    }
    const std::shared_ptr<Storage>& whole = storages[index];
    if (num_bytes > whole->num_bytes()) {
      return DoesNotFit("storage ", index, " of the reply has ", num_bytes,
                        " bytes, and its memory ", whole->num_bytes());
    }
    if (num_bytes == whole->num_bytes()) return whole;
    return std::make_shared<PartOfStorage>(whole, num_bytes);
  }

 private:
  const std::shared_ptr<ReplyMemory> memory_;
  size_t next_ = 0;
};

std::shared_ptr<CpuAllocator> ReplyMemory::Claim() {
  if (is_claimed_.exchange(true)) return nullptr;
  try {
    return std::make_shared<Writer>(shared_from_this());
  } catch (const std::bad_alloc&) {
    is_claimed_ = false;
    throw;
  }
}

absl::Status ReplyMemory::CopyInto(Message& reply) try {
  const std::shared_ptr<CpuAllocator> writer = Claim();
  if (writer == nullptr) {
    return WithCallError(
        absl::UnavailableError("the reply to an earlier attempt is still being "
                               "received into CallOptions::receive_into"),
        {.source = CallErrorSource::kCaller,
         .may_have_run = true,
         .retry_may_help = true});
  }
  // Never iterated.
  absl::flat_hash_map<std::shared_ptr<Storage>, std::shared_ptr<Storage>>
      copies;
  for (Tensor& tensor : reply.tensors) {
    if (tensor.storage->device() != CpuDevice()) continue;
    std::shared_ptr<Storage>& copy = copies[tensor.storage];
    if (copy == nullptr) {
      const size_t num_bytes = tensor.storage->num_bytes();
      absl::StatusOr<std::shared_ptr<Storage>> room =
          writer->Allocate(num_bytes);
      if (!room.ok()) return room.status();
      copy = *std::move(room);
      if (num_bytes > 0) {
        std::memcpy(copy->data(), tensor.storage->data(), num_bytes);
      }
    }
    tensor.storage = copy;
  }
  return absl::OkStatus();
} catch (const std::bad_alloc&) {
  return absl::ResourceExhaustedError("no memory to copy a reply");
}

}  // namespace reprise

#include "agent/transport/cuda/staging.h"

#include "agent/planted.h"
#include "agent/transport/cuda/error.h"

namespace reprise {
namespace {

constexpr size_t kSmallChunkBytes = size_t{64} << 10;

using tensorpipe::Error;
using TensorPtr = std::shared_ptr<StagedTensor>;

TensorPtr MakeTensor(const StagedMemory& memory, size_t length,
                     StagedChannel::Done done) {
  auto tensor = std::make_shared<StagedTensor>();
  tensor->memory = memory;
  tensor->length = length;
  tensor->done = std::move(done);
  return tensor;
}

// Begins the tensor's next chunk.
StagedChunkPtr MakeChunk(const TensorPtr& tensor, size_t chunk_bytes) {
  auto chunk = std::make_shared<StagedChunk>();
  chunk->tensor = tensor;
  chunk->position = tensor->position;
  chunk->num_bytes = tensor->NextChunk(chunk_bytes);
  tensor->position += chunk->num_bytes;
  ++tensor->num_unfinished;
  ++tensor->num_touching;
  return chunk;
}

// Calls back `tensor`, which is one of `tensors`, if it is time.
void SettleIn(std::deque<TensorPtr>& tensors, const TensorPtr& tensor,
              const Error& error) {
  const bool is_over =
      error ? tensor->num_touching == 0
            : tensor->num_unfinished == 0 && tensor->position == tensor->length;
  if (!is_over || tensor->done == nullptr) return;
  std::erase(tensors, tensor);
  std::exchange(tensor->done, nullptr)(error);
}

}  // namespace

absl::Status PinnedSlots::Make() {
  if (memory_ != nullptr) return absl::OkStatus();
  absl::StatusOr<void*> memory =
      driver_.AllocatePinned(num_slots_ * slot_bytes_);
  if (memory.ok()) memory_ = *memory;
  return memory.status();
}

// --- Sending ---

void StagedSender::Send(const StagedMemory& memory, size_t length,
                        StagedChannel::Done done) {
  tensors_.push_back(MakeTensor(memory, length, std::move(done)));
  waiting_.push_back(tensors_.back());
  BeginChunks();
}

void StagedSender::Resume() {
  is_paused_ = false;
  BeginChunks();
}

void StagedSender::BeginChunks() {
  while (!channel_.error() && !is_paused_ && !waits_for_slot_ &&
         !waiting_.empty()) {
    const TensorPtr tensor = waiting_.front();
    if (tensor->memory.is_gpu) {
      waits_for_slot_ = true;
      channel_.TakeSendSlot([this, tensor](int slot) { OnSlot(tensor, slot); });
      continue;
    }
    const StagedChunkPtr chunk = Begin(tensor);
    chunk->data = chunk->tensor_data();
    chunk->is_ready = true;
    channel_.Announce(*chunk);
    chunks_.push_back(chunk);
    DeliverReady();
  }
}

StagedChunkPtr StagedSender::Begin(const TensorPtr& tensor) {
  StagedChunkPtr chunk = MakeChunk(tensor, chunk_bytes_);
  if (tensor->position == tensor->length) waiting_.pop_front();
  return chunk;
}

void StagedSender::OnSlot(const TensorPtr& tensor, int slot) {
  waits_for_slot_ = false;
  if (channel_.error()) return channel_.GiveSendSlot(slot);
  const StagedChunkPtr chunk = Begin(tensor);
  chunk->slot = slot;
  chunk->data = channel_.send_slot_at(slot);
  const GpuStream stream = tensor->memory.stream;
  absl::Status status =
      driver_.Copy(chunk->data, chunk->tensor_data(), chunk->num_bytes, stream);
  if (status.ok()) {
    channel_.Announce(*chunk);
    chunks_.push_back(chunk);
    // Somebody waits for a small tensor; to look is faster than a callback.
    const bool is_small =
        chunks_.size() == 1 && chunk->num_bytes <= kSmallChunkBytes;
    status = watch_.After(
        stream, [done = channel_.InLoop([this, chunk] {
          OnStaged(chunk);
        })](const absl::Status& copied) { done(GpuErrorOf(copied)); },
        is_small ? StreamWatch::kBriefly : 0);
  }
  if (!status.ok()) {
    // Nothing is enqueued any more.
    --tensor->num_touching;
    channel_.GiveSendSlot(slot);
    return channel_.Fail(GpuErrorOf(status));
  }
  BeginChunks();
}

void StagedSender::OnStaged(const StagedChunkPtr& chunk) {
  --chunk->tensor->num_touching;
  --chunk->tensor->num_unfinished;
  Settle(chunk->tensor);
  if (channel_.error()) return channel_.GiveSendSlot(chunk->slot);
  chunk->is_ready = true;
  DeliverReady();
}

void StagedSender::DeliverReady() {
  while (!channel_.error() && !chunks_.empty() && chunks_.front()->is_ready) {
    const StagedChunkPtr chunk = chunks_.front();
    chunks_.pop_front();
    channel_.Deliver(*chunk,
                     channel_.InLoop([this, chunk] { OnDelivered(*chunk); }));
  }
}

void StagedSender::OnDelivered(const StagedChunk& chunk) {
  if (chunk.slot != SlotPool::kNone) return channel_.GiveSendSlot(chunk.slot);
  --chunk.tensor->num_touching;
  --chunk.tensor->num_unfinished;
  Settle(chunk.tensor);
}

void StagedSender::OnError() {
  waiting_.clear();
  for (const StagedChunkPtr& chunk : std::exchange(chunks_, {})) {
    if (!chunk->is_ready) continue;  // `OnStaged` will come
    if (chunk->slot != SlotPool::kNone) {
      channel_.GiveSendSlot(chunk->slot);
    } else {
      --chunk->tensor->num_touching;
    }
  }
  const auto tensors = tensors_;
  for (const TensorPtr& tensor : tensors) Settle(tensor);
}

void StagedSender::Settle(const TensorPtr& tensor) {
  SettleIn(tensors_, tensor, channel_.error());
}

// --- Receiving ---

void StagedReceiver::Receive(const StagedMemory& memory, size_t length,
                             StagedChannel::Done done) {
  tensors_.push_back(MakeTensor(memory, length, std::move(done)));
  waiting_.push_back(tensors_.back());
  BeginChunk();
}

void StagedReceiver::BeginChunk() {
  if (channel_.error() || is_beginning_ || waiting_.empty()) return;
  is_beginning_ = true;
  const StagedChunkPtr chunk = MakeChunk(waiting_.front(), chunk_bytes_);
  // Nothing is written before the chunk's bytes come.
  channel_.AwaitChunk(
      chunk,
      [this, chunk] {
        is_beginning_ = false;
        if (chunk->tensor->position == chunk->tensor->length) {
          waiting_.pop_front();
        }
        BeginChunk();
      },
      channel_.InLoop([this, chunk] { OnArrived(chunk); }));
}

void StagedReceiver::OnArrived(const StagedChunkPtr& chunk) {
  StagedTensor& tensor = *chunk->tensor;
  if (!channel_.error() && tensor.memory.is_gpu) return Unstage(chunk);
  // In host memory, the chunk is where it belongs.
  --tensor.num_touching;
  --tensor.num_unfinished;
  if (chunk->slot != SlotPool::kNone) channel_.ReleaseChunk(*chunk);
  Settle(chunk->tensor);
}

void StagedReceiver::Unstage(const StagedChunkPtr& chunk) {
  const GpuStream stream = chunk->tensor->memory.stream;
  absl::Status status =
      driver_.Copy(chunk->tensor_data(), chunk->data, chunk->num_bytes, stream);
  const bool is_early = chunk->is_shared
                            ? REPRISE_PLANTED(cuda_host_early_reply)
                            : REPRISE_PLANTED(cuda_basic_early_slot);
  if (status.ok() && is_early) channel_.ReleaseChunk(*chunk);
  if (status.ok()) {
    status = watch_.After(
        stream, [done = channel_.InLoop([this, chunk, is_early] {
          if (is_early) chunk->slot = SlotPool::kNone;
          OnUnstaged(*chunk);
        })](const absl::Status& copied) { done(GpuErrorOf(copied)); });
  }
  if (!status.ok()) {
    // Nothing is enqueued any more.
    if (!is_early) channel_.ReleaseChunk(*chunk);
    --chunk->tensor->num_touching;
    return channel_.Fail(GpuErrorOf(status));
  }
  --chunk->tensor->num_unfinished;
  Settle(chunk->tensor);
}

void StagedReceiver::OnUnstaged(const StagedChunk& chunk) {
  --chunk.tensor->num_touching;
  if (chunk.slot != SlotPool::kNone) channel_.ReleaseChunk(chunk);
  if (channel_.error()) Settle(chunk.tensor);
}

void StagedReceiver::OnError() {
  waiting_.clear();
  const auto tensors = tensors_;
  for (const TensorPtr& tensor : tensors) Settle(tensor);
}

void StagedReceiver::Settle(const TensorPtr& tensor) {
  SettleIn(tensors_, tensor, channel_.error());
}

}  // namespace reprise

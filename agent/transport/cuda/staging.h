// Sends and receives tensors of GPUs in chunks, through slots of host memory
// that the GPU copies to and from. What the channels cuda_basic and cuda_host
// have in common; they differ in how a slot's bytes get to the peer.
//
// All classes here belong to the loop of one context.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_STAGING_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_STAGING_H_

#include <algorithm>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/device/gpu_buffer.h"
#include "agent/transport/cuda/callback_thread.h"
#include "agent/transport/cuda/slot_pool.h"
#include "agent/transport/cuda/stream_watch.h"
#include "tensorpipe/common/error.h"

namespace reprise {

// Pinned memory for all channels of a context, made when it is first asked for.
class PinnedSlots {
 public:
  PinnedSlots(GpuDriver& driver, int num_slots, size_t slot_bytes)
      : driver_(driver),
        num_slots_(num_slots),
        slot_bytes_(slot_bytes),
        slots_(num_slots) {}
  PinnedSlots(const PinnedSlots&) = delete;
  PinnedSlots& operator=(const PinnedSlots&) = delete;
  ~PinnedSlots() {
    if (memory_ != nullptr) driver_.FreePinned(memory_);
  }

  // Must be OK before the other functions are called. It may be tried again.
  absl::Status Make();
  SlotPool& slots() { return slots_; }
  char* At(int slot) const {
    return static_cast<char*>(memory_) + slot * slot_bytes_;
  }

 private:
  GpuDriver& driver_;
  const int num_slots_;
  const size_t slot_bytes_;
  void* memory_ = nullptr;
  SlotPool slots_;
};

// Where a tensor lies: on a GPU or, if `is_gpu` is false, in host memory.
struct StagedMemory {
  bool is_gpu = false;
  GpuStream stream;
  char* data = nullptr;
};

// A tensor on its way, and the callback that somebody waits for.
struct StagedTensor {
  StagedMemory memory;
  size_t length = 0;
  std::function<void(const tensorpipe::Error&)> done;  // null: called
  size_t position = 0;     // of the first chunk that has not begun
  int num_unfinished = 0;  // chunks that have begun, until `done` may be called
  int num_touching = 0;    // chunks that use the tensor's memory

  size_t NextChunk(size_t chunk_bytes) const {
    return std::min(length - position, chunk_bytes);
  }
};

struct StagedChunk {
  std::shared_ptr<StagedTensor> tensor;
  size_t position = 0;  // in the tensor
  size_t num_bytes = 0;
  int slot = SlotPool::kNone;  // none for a tensor in host memory
  char* data = nullptr;        // the slot's, or the tensor's
  bool is_ready = false;       // to be delivered
  bool is_shared = false;      // received in memory that the peer has, too

  char* tensor_data() const { return tensor->memory.data + position; }
};
using StagedChunkPtr = std::shared_ptr<StagedChunk>;

// The channel, as the two classes below see it.
class StagedChannel {
 public:
  using Done = std::function<void(const tensorpipe::Error&)>;

  virtual const tensorpipe::Error& error() const = 0;
  virtual void Fail(const tensorpipe::Error& error) = 0;
  // A function for any thread that fails the channel with its argument, if that
  // is an error, and calls `f`, both in the loop. It keeps the channel alive.
  virtual Done InLoop(std::function<void()> f) = 0;

  // Of a sender. Calls `taker` with a slot of `send_slot_at`; never, once the
  // channel has failed for want of slots.
  virtual void TakeSendSlot(SlotPool::Taker taker) = 0;
  virtual char* send_slot_at(int slot) = 0;
  virtual void GiveSendSlot(int slot) = 0;
  // A chunk has begun: tells the peer, if it must know now.
  virtual void Announce(const StagedChunk& chunk) = 0;
  // The chunk's bytes are in `data`. Calls `done` when they may change.
  virtual void Deliver(const StagedChunk& chunk, Done done) = 0;

  // Of a receiver. Waits for the peer's next chunk, which belongs to `chunk`,
  // takes its bytes, sets `slot`, `data` and `is_shared`, and calls `done`.
  // Calls `begun` before that, once, when the chunk after it may be asked for.
  // With an error `begun` need not be called.
  virtual void AwaitChunk(const StagedChunkPtr& chunk,
                          std::function<void()> begun, Done done) = 0;
  // The slot's bytes have been read.
  virtual void ReleaseChunk(const StagedChunk& chunk) = 0;

 protected:
  ~StagedChannel() = default;
};

// A send is called back when its memory is not read any more.
class StagedSender {
 public:
  StagedSender(StagedChannel& channel, GpuDriver& driver,
               CallbackThread& callbacks, size_t chunk_bytes)
      : channel_(channel),
        driver_(driver),
        chunk_bytes_(chunk_bytes),
        watch_(driver, callbacks) {}

  void Send(const StagedMemory& memory, size_t length,
            StagedChannel::Done done);
  // Goes on, when what `Pause` waited for has come.
  void Resume();
  void Pause() { is_paused_ = true; }
  // The channel has failed: calls back all as soon as their memory is free.
  void OnError();

 private:
  void BeginChunks();
  void OnSlot(const std::shared_ptr<StagedTensor>& tensor, int slot);
  StagedChunkPtr Begin(const std::shared_ptr<StagedTensor>& tensor);
  void OnStaged(const StagedChunkPtr& chunk);
  void DeliverReady();
  void OnDelivered(const StagedChunk& chunk);
  void Settle(const std::shared_ptr<StagedTensor>& tensor);

  StagedChannel& channel_;
  GpuDriver& driver_;
  const size_t chunk_bytes_;
  StreamWatch watch_;
  std::deque<std::shared_ptr<StagedTensor>> tensors_;  // not called back
  std::deque<std::shared_ptr<StagedTensor>> waiting_;  // chunks have not begun
  bool waits_for_slot_ = false;
  bool is_paused_ = false;
  std::deque<StagedChunkPtr> chunks_;  // not handed to `Deliver`
};

// A receive is called back when its last copy has been enqueued on its stream;
// with an error, when its memory is not written any more.
class StagedReceiver {
 public:
  StagedReceiver(StagedChannel& channel, GpuDriver& driver,
                 CallbackThread& callbacks, size_t chunk_bytes)
      : channel_(channel),
        driver_(driver),
        chunk_bytes_(chunk_bytes),
        watch_(driver, callbacks) {}

  void Receive(const StagedMemory& memory, size_t length,
               StagedChannel::Done done);
  void OnError();

 private:
  void BeginChunk();
  void OnArrived(const StagedChunkPtr& chunk);
  void Unstage(const StagedChunkPtr& chunk);
  void OnUnstaged(const StagedChunk& chunk);
  void Settle(const std::shared_ptr<StagedTensor>& tensor);

  StagedChannel& channel_;
  GpuDriver& driver_;
  const size_t chunk_bytes_;
  StreamWatch watch_;
  std::deque<std::shared_ptr<StagedTensor>> tensors_;  // not called back
  std::deque<std::shared_ptr<StagedTensor>> waiting_;  // chunks have not begun
  bool is_beginning_ = false;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_STAGING_H_

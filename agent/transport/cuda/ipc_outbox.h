// Staging memory of a GPU that other processes read: slots, an event for each,
// and the handles by which a peer opens them. Of the channel cuda_ipc.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_IPC_OUTBOX_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_IPC_OUTBOX_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <deque>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/transport/cuda/callback_thread.h"
#include "agent/transport/cuda/environment.h"
#include "agent/transport/cuda/slot_pool.h"
#include "agent/transport/cuda/wire.h"

namespace reprise {

// Belongs to the loop of one context.
class IpcOutbox {
 public:
  static constexpr int kNumSlots = 4;
  static constexpr size_t kSlotBytes = size_t{8} << 20;
  static constexpr size_t kMaxRetired = 2;  // for each device

  // 32 MiB of `device`.
  static absl::StatusOr<std::shared_ptr<IpcOutbox>> Make(
      const GpuChannelEnvironment& environment, int device);
  IpcOutbox(GpuDriver& driver, int device) : driver_(driver), device_(device) {}
  IpcOutbox(const IpcOutbox&) = delete;
  IpcOutbox& operator=(const IpcOutbox&) = delete;
  ~IpcOutbox();

  const IpcOutboxInfo& info() const { return info_; }
  SlotPool& slots() { return slots_; }
  char* SlotAt(int slot) const {
    return static_cast<char*>(memory_) + slot * kSlotBytes;
  }
  GpuEvent EventOf(int slot) const { return events_[slot]; }
  // Whether the slot's event was ever recorded: at the slot's first use there
  // is nothing to wait for.
  std::atomic<bool>& WasUsed(int slot) { return was_used_[slot]; }
  // Whether the copies out of the slots are done, as far as the events tell: a
  // reader records a slot's event behind its copy. For any thread.
  bool IsRead() const;

 private:
  absl::Status Fill(const GpuChannelEnvironment& environment);

  GpuDriver& driver_;
  const int device_;
  void* memory_ = nullptr;
  std::array<GpuEvent, kNumSlots> events_ = {};
  int num_events_ = 0;
  std::array<std::atomic<bool>, kNumSlots> was_used_ = {};
  IpcOutboxInfo info_;
  SlotPool slots_{kNumSlots};
};

// The outboxes of one context, in its loop. What is given up stays until it has
// been read, `kLongestHold` at most, as a reader's GPU may stand still.
class IpcOutboxes {
 public:
  static constexpr absl::Duration kLongestHold = absl::Seconds(10);

  IpcOutboxes(const GpuChannelEnvironment& environment,
              CallbackThread& callbacks)
      : environment_(environment), callbacks_(callbacks) {}

  // For a channel that begins to send from `device`, and goes on to use it.
  absl::StatusOr<std::shared_ptr<IpcOutbox>> Of(int device);
  // The caller does not use it any more.
  void GiveUp(const std::shared_ptr<IpcOutbox>& outbox);
  // Gives all up.
  void Clear();

 private:
  const GpuChannelEnvironment& environment_;
  CallbackThread& callbacks_;
  std::map<int, std::shared_ptr<IpcOutbox>> current_;  // by device
  // Peers may still read what is in them.
  std::map<int, std::deque<std::shared_ptr<IpcOutbox>>> retired_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_IPC_OUTBOX_H_

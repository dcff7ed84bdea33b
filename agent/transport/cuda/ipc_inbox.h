// A peer's staging memory, opened here. Of the channel cuda_ipc.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_IPC_INBOX_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_IPC_INBOX_H_

#include <array>
#include <map>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/device/driver.h"
#include "agent/transport/cuda/ipc_outbox.h"
#include "agent/transport/cuda/wire.h"

namespace reprise {

// One outbox of a peer's for one device of ours. Must not be destroyed while a
// copy from it is under way.
class IpcInbox {
 public:
  static absl::StatusOr<std::unique_ptr<IpcInbox>> Open(
      GpuDriver& driver, int device, const IpcOutboxInfo& info);
  IpcInbox(GpuDriver& driver, int device) : driver_(driver), device_(device) {}
  IpcInbox(const IpcInbox&) = delete;
  IpcInbox& operator=(const IpcInbox&) = delete;
  ~IpcInbox();

  const char* SlotAt(uint64_t slot) const {
    return static_cast<const char*>(memory_) + slot * IpcOutbox::kSlotBytes;
  }
  GpuEvent EventOf(uint64_t slot) const { return events_[slot]; }

 private:
  absl::Status Fill(const IpcOutboxInfo& info);

  GpuDriver& driver_;
  const int device_;
  void* memory_ = nullptr;
  std::array<GpuEvent, IpcOutbox::kNumSlots> events_ = {};
  int num_events_ = 0;
};

// What one channel has been told of and has opened.
class IpcInboxes {
 public:
  // A peer has no more devices.
  static constexpr int kMaxDevices = 64;

  explicit IpcInboxes(GpuDriver& driver) : driver_(driver) {}

  // Checks a descriptor, and returns the memory that it speaks of, opened for
  // `device` of ours. INVALID_ARGUMENT, or the driver's error.
  absl::StatusOr<const IpcInbox*> Find(const IpcDescriptor& descriptor,
                                       int device);
  // Closes all.
  void Clear() { opened_.clear(); }

 private:
  GpuDriver& driver_;
  std::map<int, IpcOutboxInfo> told_;  // by device of the peer's
  // By device of the peer's, and of ours.
  std::map<std::pair<int, int>, std::unique_ptr<IpcInbox>> opened_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_IPC_INBOX_H_

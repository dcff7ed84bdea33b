// GPUs of a machine whose memory is host memory and whose work is done by one
// thread, in any order that streams and events allow.

#ifndef REPRISE_TESTS_UNIT_TRANSPORT_CUDA_FAKE_GPUS_H_
#define REPRISE_TESTS_UNIT_TRANSPORT_CUDA_FAKE_GPUS_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/device/driver.h"

namespace reprise {

class FakeDriver;

// The machine. Must outlive its drivers.
class FakeGpus {
 public:
  explicit FakeGpus(int num_devices = 2, unsigned seed = 1);
  ~FakeGpus();

 private:
  friend class FakeDriver;

  struct Event {
    int device = 0;
    bool is_shared = false;
    uint64_t num_recorded = 0;  // calls
    // Those that the GPU has come to. A later one, on another stream, may be
    // done before an earlier one that some stream still waits for.
    std::set<uint64_t> done = {0};
    absl::Status error;  // of the work before the last of these
  };
  struct Work {
    std::function<bool()> is_ready;  // null: at once
    std::function<void(absl::Status)> run;
  };
  struct Stream {
    std::deque<Work> work;
    bool is_running = false;
    bool is_held = false;
    absl::Status error;
  };
  struct Memory {
    int device = 0;
    const FakeDriver* owner = nullptr;
    size_t num_bytes = 0;
    uint64_t id = 0;
    bool may_be_exported = true;
    std::unique_ptr<char[]> bytes;
  };
  using StreamKey = std::tuple<int, int, uintptr_t>;  // process, device, handle

  void Run();

  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_stopping_ = false;
  std::vector<GpuProperties> properties_;
  std::mt19937 random_;
  std::map<StreamKey, Stream> streams_;
  std::map<const void*, std::shared_ptr<Memory>> memories_;  // by base
  std::map<std::string, std::weak_ptr<Memory>> memory_handles_;
  std::map<std::string, std::pair<const FakeDriver*, std::weak_ptr<Event>>>
      event_handles_;
  uint64_t next_id_ = 1;
  int num_processes_ = 0;
  std::vector<std::string> faults_;  // what no channel may do
  std::thread thread_;
};

// What one process sees of it.
class FakeDriver final : public GpuDriver {
 public:
  explicit FakeDriver(FakeGpus& gpus);

  // --- For tests ---
  // The n-th call from now that can fail does, if n > 0.
  void FailCall(int n);
  // Whether that has come about.
  bool HasFailed();
  // The stream does nothing until it is released.
  void Hold(GpuStream stream) { SetHeld(stream, true); }
  void Release(GpuStream stream) { SetHeld(stream, false); }
  // Work of the user's.
  void Do(GpuStream stream, std::function<void()> work);
  // What the next copy that the stream comes to ends with.
  void FailWork(GpuStream stream);
  void ForbidExport(void* memory);
  void set_can_share(bool can_share) { can_share_ = can_share; }
  void set_can_register(bool can_register) { can_register_ = can_register; }
  int num_callbacks() const { return num_callbacks_; }
  // What this process holds ("" for nothing), or has done wrong.
  std::string Held();

  // --- GpuDriver ---
  int device_count() const override;
  const GpuProperties& properties(int device) const override;
  bool CanReadPeer(int device, const std::string& uuid) override;
  absl::StatusOr<void*> Allocate(int device, size_t num_bytes) override;
  void Free(int device, void* memory) override;
  absl::StatusOr<void*> AllocatePinned(size_t num_bytes) override;
  void FreePinned(void* memory) override;
  absl::Status RegisterHost(void* memory, size_t num_bytes) override;
  void UnregisterHost(void* memory) override;
  absl::StatusOr<GpuAllocation> FindAllocation(const void* memory) override;
  absl::StatusOr<GpuStream> CreateStream(int device) override;
  void DestroyStream(GpuStream stream) override;
  absl::Status Synchronize(GpuStream stream) override;
  absl::Status Copy(void* to, const void* from, size_t num_bytes,
                    GpuStream stream) override;
  absl::Status AddCallback(
      GpuStream stream,
      absl::AnyInvocable<void(absl::Status)> callback) override;
  absl::StatusOr<GpuEvent> CreateEvent(int device, bool is_shared) override;
  void DestroyEvent(GpuEvent event) override;
  absl::Status Record(GpuEvent event, GpuStream stream) override;
  absl::Status Wait(GpuStream stream, GpuEvent event) override;
  absl::StatusOr<bool> IsDone(GpuEvent event) override;
  absl::Status Synchronize(GpuEvent event) override;
  absl::StatusOr<std::string> ExportMemory(int device, void* base) override;
  absl::StatusOr<void*> OpenMemory(int device,
                                   const std::string& handle) override;
  void CloseMemory(int device, void* base) override;
  absl::StatusOr<std::string> ExportEvent(GpuEvent event) override;
  absl::StatusOr<GpuEvent> OpenEvent(int device,
                                     const std::string& handle) override;

 private:
  using Lock = std::unique_lock<std::mutex>;

  // Begins a call. An error if it is to fail.
  absl::Status Enter();
  FakeGpus::StreamKey KeyOf(GpuStream stream) const {
    return {process_, stream.device, stream.handle};
  }
  void Push(GpuStream stream, FakeGpus::Work work);
  void SetHeld(GpuStream stream, bool is_held);
  std::shared_ptr<FakeGpus::Event> Find(GpuEvent event);
  GpuEvent Keep(int device, std::shared_ptr<FakeGpus::Event> event);
  std::string MakeHandle(const char* kind);

  FakeGpus& gpus_;
  const int process_;
  bool can_share_ = true;
  bool can_register_ = true;
  int calls_until_failure_ = 0;
  bool has_failed_ = false;
  std::atomic<int> num_callbacks_ = 0;  // asked for
  std::map<uintptr_t, std::shared_ptr<FakeGpus::Event>> events_;
  std::map<void*, std::unique_ptr<char[]>> pinned_;
  std::set<void*> registered_;
  std::set<std::pair<int, uintptr_t>> own_streams_;
  std::map<void*, std::pair<int, std::shared_ptr<FakeGpus::Memory>>> opened_;
};

}  // namespace reprise

#endif  // REPRISE_TESTS_UNIT_TRANSPORT_CUDA_FAKE_GPUS_H_

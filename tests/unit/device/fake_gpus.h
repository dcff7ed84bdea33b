// GPUs whose memory is the host's and whose work is done at once, unless a test
// holds a stream up. For the tests of what stands on the driver seam.

#ifndef REPRISE_TESTS_UNIT_DEVICE_FAKE_GPUS_H_
#define REPRISE_TESTS_UNIT_DEVICE_FAKE_GPUS_H_

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "agent/device/driver.h"

namespace reprise {

// To be used on one thread.
class FakeGpus final : public GpuDriver {
 public:
  using Handle = std::pair<int, uintptr_t>;

  explicit FakeGpus(int count) {
    for (int i = 0; i < count; ++i) {
      properties_.emplace_back();
      properties_.back().uuid = absl::StrCat("uuid-", i);
    }
  }

  // What is put on the stream from now on is not done until `Release`.
  void Hold(GpuStream stream) { streams_[Key(stream)].is_held = true; }
  void Release(GpuStream stream) {
    Stream& held = streams_[Key(stream)];
    held.is_held = false;
    held.done = held.put;
  }

  // What `Allocate` and `AllocatePinned`, and `Record`, return if not OK.
  absl::Status allocate_error;
  absl::Status record_error;

  // Of all that was made and not yet destroyed.
  int live_events = 0;
  int live_streams = 0;
  // Each wait: the stream that waits, and the one that it waits for.
  std::vector<std::pair<GpuStream, GpuStream>> waits;
  std::vector<GpuStream> synchronized;
  int num_blocking_waits = 0;  // on the host, for work that was not done

  size_t live_allocations() const { return memory_.size(); }

  int device_count() const override {
    return static_cast<int>(properties_.size());
  }
  const GpuProperties& properties(int device) const override {
    return properties_[device];
  }
  bool CanReadPeer(int, const std::string&) override { return true; }

  absl::StatusOr<void*> Allocate(int device, size_t num_bytes) override {
    if (!allocate_error.ok()) return allocate_error;
    auto bytes = std::make_unique<char[]>(num_bytes);
    void* const memory = bytes.get();
    memory_[memory] = {device, num_bytes, std::move(bytes)};
    return memory;
  }
  void Free(int, void* memory) override { memory_.erase(memory); }
  absl::StatusOr<void*> AllocatePinned(size_t num_bytes) override {
    return Allocate(kHost, num_bytes);
  }
  void FreePinned(void* memory) override { Free(kHost, memory); }
  absl::Status RegisterHost(void*, size_t) override { return Unused(); }
  void UnregisterHost(void*) override {}
  absl::StatusOr<GpuAllocation> FindAllocation(const void* memory) override {
    for (const auto& [base, block] : memory_) {
      const char* const first = static_cast<const char*>(base);
      if (memory < first || memory >= first + block.num_bytes) continue;
      if (block.device == kHost) break;
      GpuAllocation found;
      found.device = block.device;
      found.base = base;
      found.num_bytes = block.num_bytes;
      return found;
    }
    return absl::NotFoundError("memory of the host");
  }

  absl::StatusOr<GpuStream> CreateStream(int device) override {
    ++live_streams;
    return GpuStream{device, ++last_handle_};
  }
  void DestroyStream(GpuStream) override { --live_streams; }
  absl::Status Synchronize(GpuStream stream) override {
    synchronized.push_back(stream);
    Await(streams_[Key(stream)]);
    return absl::OkStatus();
  }
  absl::Status Copy(void* to, const void* from, size_t num_bytes,
                    GpuStream) override {
    std::memcpy(to, from, num_bytes);
    return absl::OkStatus();
  }
  absl::Status AddCallback(GpuStream,
                           absl::AnyInvocable<void(absl::Status)>) override {
    return Unused();
  }

  absl::StatusOr<GpuEvent> CreateEvent(int device, bool) override {
    ++live_events;
    return GpuEvent{device, ++last_handle_};
  }
  void DestroyEvent(GpuEvent event) override {
    --live_events;
    events_.erase(event.handle);
  }
  absl::Status Record(GpuEvent event, GpuStream stream) override {
    if (!record_error.ok()) return record_error;
    Stream& on = streams_[Key(stream)];
    events_[event.handle] = {stream, ++on.put};
    if (!on.is_held) on.done = on.put;
    return absl::OkStatus();
  }
  absl::Status Wait(GpuStream stream, GpuEvent event) override {
    waits.emplace_back(stream, events_[event.handle].stream);
    return absl::OkStatus();
  }
  absl::StatusOr<bool> IsDone(GpuEvent event) override {
    const Event& recorded = events_[event.handle];
    return streams_[Key(recorded.stream)].done >= recorded.number;
  }
  absl::Status Synchronize(GpuEvent event) override {
    Await(streams_[Key(events_[event.handle].stream)]);
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> ExportMemory(int, void*) override {
    return Unused();
  }
  absl::StatusOr<void*> OpenMemory(int, const std::string&) override {
    return Unused();
  }
  void CloseMemory(int, void*) override {}
  absl::StatusOr<std::string> ExportEvent(GpuEvent) override {
    return Unused();
  }
  absl::StatusOr<GpuEvent> OpenEvent(int, const std::string&) override {
    return Unused();
  }

 private:
  static constexpr int kHost = -1;
  struct Memory {
    int device = 0;
    size_t num_bytes = 0;
    std::unique_ptr<char[]> bytes;
  };
  struct Stream {
    bool is_held = false;
    int put = 0;
    int done = 0;
  };
  struct Event {
    GpuStream stream;
    int number = 0;
  };

  static Handle Key(GpuStream stream) { return {stream.device, stream.handle}; }
  static absl::Status Unused() { return absl::UnimplementedError("unused"); }
  void Await(Stream& stream) {
    if (stream.done < stream.put) ++num_blocking_waits;
    stream.done = stream.put;
  }

  std::vector<GpuProperties> properties_;
  std::map<void*, Memory> memory_;
  std::map<Handle, Stream> streams_;
  std::map<uintptr_t, Event> events_;
  uintptr_t last_handle_ = 100;
};

}  // namespace reprise

#endif  // REPRISE_TESTS_UNIT_DEVICE_FAKE_GPUS_H_

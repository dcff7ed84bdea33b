#include "tests/unit/transport/cuda/fake_gpus.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace reprise {

FakeGpus::FakeGpus(int num_devices, unsigned seed) : random_(seed) {
  for (int i = 0; i < num_devices; ++i) {
    GpuProperties properties;
    properties.name = "fake";
    properties.uuid = absl::StrCat("00000000-0000-0000-0000-00000000000", i);
    properties_.push_back(properties);
  }
  thread_ = std::thread([this] { Run(); });
}

FakeGpus::~FakeGpus() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void FakeGpus::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    std::vector<Stream*> ready;
    for (auto& [key, stream] : streams_) {
      if (stream.is_held || stream.work.empty()) continue;
      const Work& work = stream.work.front();
      if (work.is_ready == nullptr || work.is_ready()) ready.push_back(&stream);
    }
    if (ready.empty()) {
      if (is_stopping_) return;
      changed_.wait(lock);
      continue;
    }
    Stream& stream = *ready[random_() % ready.size()];
    Work work = std::move(stream.work.front());
    stream.work.pop_front();
    stream.is_running = true;
    const absl::Status error = stream.error;
    lock.unlock();
    work.run(error);
    work = {};
    lock.lock();
    stream.is_running = false;
    changed_.notify_all();
  }
}

FakeDriver::FakeDriver(FakeGpus& gpus)
    : gpus_(gpus), process_(++gpus.num_processes_) {}

// --- For tests ---

absl::Status FakeDriver::Enter() {
  const std::lock_guard lock(gpus_.mutex_);
  if (std::this_thread::get_id() == gpus_.thread_.get_id()) {
    gpus_.faults_.push_back("a callback calls the driver");
  }
  if (calls_until_failure_ > 0 && --calls_until_failure_ == 0) {
    has_failed_ = true;
    return absl::InternalError("injected failure");
  }
  return absl::OkStatus();
}

void FakeDriver::FailCall(int n) {
  const std::lock_guard lock(gpus_.mutex_);
  calls_until_failure_ = n;
  has_failed_ = false;
}

bool FakeDriver::HasFailed() {
  const std::lock_guard lock(gpus_.mutex_);
  return has_failed_;
}

void FakeDriver::SetHeld(GpuStream stream, bool is_held) {
  const std::lock_guard lock(gpus_.mutex_);
  gpus_.streams_[KeyOf(stream)].is_held = is_held;
  gpus_.changed_.notify_all();
}

void FakeDriver::Do(GpuStream stream, std::function<void()> work) {
  Push(stream, {nullptr, [work = std::move(work)](absl::Status) { work(); }});
}

void FakeDriver::FailWork(GpuStream stream) {
  const std::lock_guard lock(gpus_.mutex_);
  gpus_.streams_[KeyOf(stream)].error = absl::InternalError("injected failure");
}

void FakeDriver::ForbidExport(void* memory) {
  const std::lock_guard lock(gpus_.mutex_);
  gpus_.memories_[memory]->may_be_exported = false;
}

std::string FakeDriver::Held() {
  const std::lock_guard lock(gpus_.mutex_);
  std::string held;
  const auto add = [&](const char* what, size_t count) {
    if (count > 0) absl::StrAppend(&held, count, " ", what, "; ");
  };
  size_t num_memories = 0;
  for (const auto& [base, memory] : gpus_.memories_) {
    if (memory->owner == this) ++num_memories;
  }
  add("allocations", num_memories);
  add("events", events_.size());
  add("pinned", pinned_.size());
  add("registered", registered_.size());
  add("streams", own_streams_.size());
  add("opened", opened_.size());
  for (const std::string& fault : gpus_.faults_) {
    absl::StrAppend(&held, fault, "; ");
  }
  return held;
}

void FakeDriver::Push(GpuStream stream, FakeGpus::Work work) {
  const std::lock_guard lock(gpus_.mutex_);
  gpus_.streams_[KeyOf(stream)].work.push_back(std::move(work));
  gpus_.changed_.notify_all();
}

// --- Devices and memory ---

int FakeDriver::device_count() const {
  return static_cast<int>(gpus_.properties_.size());
}

const GpuProperties& FakeDriver::properties(int device) const {
  return gpus_.properties_[device];
}

bool FakeDriver::CanReadPeer(int, const std::string& uuid) {
  for (const GpuProperties& properties : gpus_.properties_) {
    if (properties.uuid == uuid) return true;
  }
  return false;
}

absl::StatusOr<void*> FakeDriver::Allocate(int device, size_t num_bytes) {
  if (absl::Status status = Enter(); !status.ok()) return status;
  auto memory = std::make_shared<FakeGpus::Memory>();
  memory->device = device;
  memory->owner = this;
  memory->num_bytes = num_bytes;
  memory->bytes.reset(new char[num_bytes]);
  std::memset(memory->bytes.get(), 0xee, num_bytes);
  const std::lock_guard lock(gpus_.mutex_);
  memory->id = gpus_.next_id_++;
  void* const base = memory->bytes.get();
  gpus_.memories_[base] = std::move(memory);
  return base;
}

void FakeDriver::Free(int, void* memory) {
  Lock lock(gpus_.mutex_);
  gpus_.changed_.wait(lock, [&] {
    for (const auto& [key, stream] : gpus_.streams_) {
      if (std::get<0>(key) != process_ || stream.is_held) continue;
      if (stream.is_running || !stream.work.empty()) return false;
    }
    return true;
  });
  if (gpus_.memories_.erase(memory) == 0) {
    gpus_.faults_.push_back("what is freed is no allocation");
  }
}

absl::StatusOr<void*> FakeDriver::AllocatePinned(size_t num_bytes) {
  if (absl::Status status = Enter(); !status.ok()) return status;
  std::unique_ptr<char[]> bytes(new char[num_bytes]);
  const std::lock_guard lock(gpus_.mutex_);
  void* const base = bytes.get();
  pinned_[base] = std::move(bytes);
  return base;
}

void FakeDriver::FreePinned(void* memory) {
  const std::lock_guard lock(gpus_.mutex_);
  if (pinned_.erase(memory) == 0) gpus_.faults_.push_back("no pinned memory");
}

absl::Status FakeDriver::RegisterHost(void* memory, size_t) {
  if (absl::Status status = Enter(); !status.ok()) return status;
  if (!can_register_) return absl::UnimplementedError("cannot register");
  const std::lock_guard lock(gpus_.mutex_);
  registered_.insert(memory);
  return absl::OkStatus();
}

void FakeDriver::UnregisterHost(void* memory) {
  const std::lock_guard lock(gpus_.mutex_);
  if (registered_.erase(memory) == 0) gpus_.faults_.push_back("not registered");
}

absl::StatusOr<GpuAllocation> FakeDriver::FindAllocation(const void* memory) {
  if (absl::Status status = Enter(); !status.ok()) return status;
  const std::lock_guard lock(gpus_.mutex_);
  auto it = gpus_.memories_.upper_bound(memory);
  if (it == gpus_.memories_.begin()) return absl::NotFoundError("no device");
  const FakeGpus::Memory& found = *(--it)->second;
  if (memory >= found.bytes.get() + found.num_bytes) {
    return absl::NotFoundError("no device");
  }
  return GpuAllocation{found.device, found.bytes.get(), found.num_bytes,
                       found.id, found.may_be_exported};
}

// --- Streams ---

absl::StatusOr<GpuStream> FakeDriver::CreateStream(int device) {
  if (absl::Status status = Enter(); !status.ok()) return status;
  const std::lock_guard lock(gpus_.mutex_);
  const GpuStream stream = {device, static_cast<uintptr_t>(gpus_.next_id_++)};
  own_streams_.insert({device, stream.handle});
  gpus_.streams_[KeyOf(stream)];
  return stream;
}

void FakeDriver::DestroyStream(GpuStream stream) {
  const std::lock_guard lock(gpus_.mutex_);
  if (own_streams_.erase({stream.device, stream.handle}) == 0) {
    gpus_.faults_.push_back("no such stream");
  }
}

absl::Status FakeDriver::Synchronize(GpuStream stream) {
  Lock lock(gpus_.mutex_);
  FakeGpus::Stream& found = gpus_.streams_[KeyOf(stream)];
  gpus_.changed_.wait(lock,
                      [&] { return found.work.empty() && !found.is_running; });
  return found.error;
}

absl::Status FakeDriver::Copy(void* to, const void* from, size_t num_bytes,
                              GpuStream stream) {
  if (absl::Status status = Enter(); !status.ok()) return status;
  Push(stream, {nullptr, [=](const absl::Status& error) {
                  if (error.ok()) std::memcpy(to, from, num_bytes);
                }});
  return absl::OkStatus();
}

absl::Status FakeDriver::AddCallback(
    GpuStream stream, absl::AnyInvocable<void(absl::Status)> callback) {
  ++num_callbacks_;
  if (absl::Status status = Enter(); !status.ok()) return status;
  auto shared = std::make_shared<absl::AnyInvocable<void(absl::Status)>>(
      std::move(callback));
  Push(stream, {nullptr,
                [shared](absl::Status error) { (*shared)(std::move(error)); }});
  return absl::OkStatus();
}

// --- Events ---

GpuEvent FakeDriver::Keep(int device, std::shared_ptr<FakeGpus::Event> event) {
  const auto handle = static_cast<uintptr_t>(gpus_.next_id_++);
  events_[handle] = std::move(event);
  return {device, handle};
}

std::shared_ptr<FakeGpus::Event> FakeDriver::Find(GpuEvent event) {
  const auto it = events_.find(event.handle);
  if (it != events_.end()) return it->second;
  gpus_.faults_.push_back("an event is used that there is not");
  return std::make_shared<FakeGpus::Event>();
}

absl::StatusOr<GpuEvent> FakeDriver::CreateEvent(int device, bool is_shared) {
  if (absl::Status status = Enter(); !status.ok()) return status;
  auto event = std::make_shared<FakeGpus::Event>();
  event->device = device;
  event->is_shared = is_shared;
  const std::lock_guard lock(gpus_.mutex_);
  return Keep(device, std::move(event));
}

void FakeDriver::DestroyEvent(GpuEvent event) {
  const std::lock_guard lock(gpus_.mutex_);
  if (events_.erase(event.handle) == 0) {
    gpus_.faults_.push_back("an event is destroyed that there is not");
  }
}

absl::Status FakeDriver::Record(GpuEvent event, GpuStream stream) {
  if (absl::Status status = Enter(); !status.ok()) return status;
  std::shared_ptr<FakeGpus::Event> found;
  uint64_t number = 0;
  {
    const std::lock_guard lock(gpus_.mutex_);
    found = Find(event);
    number = ++found->num_recorded;
  }
  Push(stream, {nullptr, [this, found, number](const absl::Status& error) {
                  const std::lock_guard lock(gpus_.mutex_);
                  found->done.insert(number);
                  found->error = error;
                }});
  return absl::OkStatus();
}

absl::Status FakeDriver::Wait(GpuStream stream, GpuEvent event) {
  if (absl::Status status = Enter(); !status.ok()) return status;
  std::shared_ptr<FakeGpus::Event> found;
  uint64_t number = 0;
  {
    const std::lock_guard lock(gpus_.mutex_);
    found = Find(event);
    number = found->num_recorded;
    if (number == 0) {
      gpus_.faults_.push_back("an event is waited for that was not recorded");
    }
  }
  Push(stream, {[found, number] { return found->done.count(number) > 0; },
                [this, found, key = KeyOf(stream)](const absl::Status&) {
                  const std::lock_guard lock(gpus_.mutex_);
                  gpus_.streams_[key].error.Update(found->error);
                }});
  return absl::OkStatus();
}

absl::StatusOr<bool> FakeDriver::IsDone(GpuEvent event) {
  if (absl::Status status = Enter(); !status.ok()) return status;
  const std::lock_guard lock(gpus_.mutex_);
  const auto found = Find(event);
  return found->done.count(found->num_recorded) > 0;
}

absl::Status FakeDriver::Synchronize(GpuEvent event) {
  Lock lock(gpus_.mutex_);
  const auto found = Find(event);
  gpus_.changed_.wait(
      lock, [&] { return found->done.count(found->num_recorded) > 0; });
  return absl::OkStatus();
}

// --- Between processes ---

std::string FakeDriver::MakeHandle(const char* kind) {
  std::string handle = absl::StrCat(kind, gpus_.next_id_++);
  handle.resize(64);
  return handle;
}

absl::StatusOr<std::string> FakeDriver::ExportMemory(int, void* base) {
  if (absl::Status status = Enter(); !status.ok()) return status;
  const std::lock_guard lock(gpus_.mutex_);
  const auto it = gpus_.memories_.find(base);
  if (!can_share_ || it == gpus_.memories_.end() ||
      !it->second->may_be_exported) {
    return absl::UnimplementedError("cannot be exported");
  }
  std::string handle = MakeHandle("memory");
  gpus_.memory_handles_[handle] = it->second;
  return handle;
}

absl::StatusOr<void*> FakeDriver::OpenMemory(int device,
                                             const std::string& handle) {
  if (absl::Status status = Enter(); !status.ok()) return status;
  const std::lock_guard lock(gpus_.mutex_);
  const auto it = gpus_.memory_handles_.find(handle);
  const auto memory =
      it == gpus_.memory_handles_.end() ? nullptr : it->second.lock();
  if (memory == nullptr || memory->owner == this) {
    return absl::InvalidArgumentError("that is no handle");
  }
  void* const base = memory->bytes.get();
  auto& [count, kept] = opened_[base];
  ++count;
  kept = memory;
  static_cast<void>(device);
  return base;
}

void FakeDriver::CloseMemory(int, void* base) {
  const std::lock_guard lock(gpus_.mutex_);
  const auto it = opened_.find(base);
  if (it == opened_.end()) {
    gpus_.faults_.push_back("what is closed is not open");
  } else if (--it->second.first == 0) {
    opened_.erase(it);
  }
}

absl::StatusOr<std::string> FakeDriver::ExportEvent(GpuEvent event) {
  if (absl::Status status = Enter(); !status.ok()) return status;
  const std::lock_guard lock(gpus_.mutex_);
  const auto found = Find(event);
  if (!can_share_ || !found->is_shared) {
    return absl::UnimplementedError("cannot be exported");
  }
  std::string handle = MakeHandle("event");
  gpus_.event_handles_[handle] = {this, found};
  return handle;
}

absl::StatusOr<GpuEvent> FakeDriver::OpenEvent(int device,
                                               const std::string& handle) {
  if (absl::Status status = Enter(); !status.ok()) return status;
  const std::lock_guard lock(gpus_.mutex_);
  const auto it = gpus_.event_handles_.find(handle);
  const auto event =
      it == gpus_.event_handles_.end() || it->second.first == this
          ? nullptr
          : it->second.second.lock();
  if (event == nullptr) return absl::InvalidArgumentError("that is no handle");
  return Keep(device, event);
}

}  // namespace reprise

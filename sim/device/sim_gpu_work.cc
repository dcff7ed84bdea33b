// Streams, events and callbacks of `SimGpuDriver`.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "sim/device/sim_gpu_driver.h"
#include "sim/world/race_annotations.h"

namespace reprise {
namespace {

uintptr_t KeyOf(const void* address) {
  return reinterpret_cast<uintptr_t>(address);
}

bool IsOnGpu(const std::shared_ptr<SimGpuMemory>& memory) {
  return memory != nullptr && memory->gpu != nullptr;
}

}  // namespace

absl::StatusOr<SimGpuStream*> SimGpuDriver::StreamOf(GpuStream stream) {
  if (auto status = CheckDevice(stream.device); !status.ok()) return status;
  const auto found = streams_.find({stream.device, stream.handle});
  if (found == streams_.end()) {
    return absl::InternalError(absl::StrCat("gpu: device ", stream.device,
                                            " has no stream ", stream.handle));
  }
  return found->second;
}

absl::StatusOr<GpuStream> SimGpuDriver::CreateStream(int device) {
  const InSimulator in;
  Enter();
  if (auto status = CheckDevice(device); !status.ok()) return status;
  const GpuStream stream{device, ++last_stream_};
  streams_[{device, stream.handle}] = &gpus_.MakeStream(*this, stream);
  return stream;
}

void SimGpuDriver::DestroyStream(GpuStream stream) {
  const InSimulator in;
  Enter();
  if (stream.handle == GpuStream::kDefault) return;
  streams_.erase({stream.device, stream.handle});
}

absl::Status SimGpuDriver::Synchronize(GpuStream stream) {
  const InSimulator in;
  Enter();
  auto found = StreamOf(stream);
  if (!found.ok()) return found.status();
  SimGpuStream& queue = **found;
  const VectorClock clock = queue.clock();
  queue.Await(queue.last_number());
  gpus_.HostKnows(clock);
  absl::Status status = queue.error();
  if (!status.ok()) queue.ErrorWasReported();
  return status;
}

int64_t SimGpuDriver::CopyNs(const SimGpuWork& work) const {
  int64_t bytes_per_second = options().bytes_per_second;
  if (work.to_memory == nullptr || work.from_memory == nullptr) {
    bytes_per_second = options().pageable_bytes_per_second;
  } else if (!IsOnGpu(work.to_memory) || !IsOnGpu(work.from_memory)) {
    bytes_per_second = options().pinned_bytes_per_second;
  } else if (work.to_memory->gpu != work.from_memory->gpu) {
    bytes_per_second = options().peer_bytes_per_second;
  }
  return static_cast<int64_t>(static_cast<double>(work.num_bytes) * 1e9 /
                              static_cast<double>(bytes_per_second));
}

absl::Status SimGpuDriver::Copy(void* to, const void* from, size_t num_bytes,
                                GpuStream stream) {
  const InSimulator in;
  Enter();
  auto found = StreamOf(stream);
  if (!found.ok()) return found.status();
  if (num_bytes == 0) return absl::OkStatus();
  SimGpuStream& queue = **found;
  SimGpuWork work;
  queue.Announce(SimGpuWork::Kind::kCopy, num_bytes, work.what);
  auto source = Locate(from, num_bytes, work.what);
  if (!source.ok()) return source.status();
  auto target = Locate(to, num_bytes, work.what);
  if (!target.ok()) return target.status();
  work.from = static_cast<const char*>(from);
  work.to = static_cast<char*>(to);
  work.num_bytes = num_bytes;
  work.from_memory = *std::move(source);
  work.to_memory = *std::move(target);
  work.duration_ns = CopyNs(work);
  const bool reads_plain = work.from_memory == nullptr;
  const bool writes_plain = work.to_memory == nullptr;
  NoteCopy(queue, work);
  const VectorClock clock = queue.clock();
  const uint64_t number = queue.Put(std::move(work));
  if (!reads_plain && !writes_plain) return absl::OkStatus();
  if (!writes_plain) {
    // The bytes lie in memory of the driver's now, and go on from there.
    Take(options().latency_min_ns);
    return absl::OkStatus();
  }
  queue.Await(number);
  gpus_.HostKnows(clock);
  gpus_.log_.Forget(KeyOf(to), num_bytes);
  return queue.error();
}

void SimGpuDriver::NoteCopy(SimGpuStream& stream, SimGpuWork& work) {
  VectorClock& clock = stream.clock();
  clock.Join(gpus_.host_clock_);
  const uint64_t epoch = clock.Tick(stream.timeline());
  const auto what = std::make_shared<const std::string>(work.what);
  const SimGpuAccess access{stream.timeline(), epoch, what};
  const bool reads_plain = work.from_memory == nullptr;
  if (reads_plain) {
    // It is read now, as a thread of the host would.
    gpus_.CheckHostAccess(work.what, work.from, work.num_bytes,
                          /*writes=*/false);
  } else {
    gpus_.CheckStreamAccess(stream, work.what, work.from, work.num_bytes,
                            /*writes=*/false, clock);
  }
  if (!IsOnGpu(work.from_memory) &&
      !gpus_.log_.Find(KeyOf(work.from), work.num_bytes, /*writes=*/false,
                       gpus_.host_clock_)) {
    work.source.assign(work.from, work.num_bytes);
    work.has_source = true;
  }
  gpus_.CheckStreamAccess(stream, work.what, work.to, work.num_bytes,
                          /*writes=*/true, clock);
  if (!reads_plain) {
    gpus_.log_.Add(KeyOf(work.from), work.num_bytes, false, access, clock);
  }
  gpus_.log_.Add(KeyOf(work.to), work.num_bytes, true, access, clock);
  for (const auto& memory : {work.from_memory, work.to_memory}) {
    if (memory == nullptr) continue;
    memory->uses[stream.timeline()] = {epoch, clock, what};
  }
  // The device was lost as this was put on its stream, and will not do it.
  if (is_lost_[static_cast<size_t>(stream.device())]) gpus_.HostKnows(clock);
}

void SimGpuDriver::AwaitUses(const SimGpuMemory& memory) {
  for (const auto& [timeline, use] : memory.uses) {
    SimGpuStream& stream = *gpus_.streams_[timeline];
    if (!stream.IsOf(node_)) continue;
    const VectorClock clock = use.clock;
    stream.Await(stream.LastUseOf(memory));
    gpus_.HostKnows(clock);
  }
}

bool SimGpuDriver::TakesCopyFailure(const SimGpuWork& work,
                                    absl::Status& error) {
  for (const auto& memory : {work.from_memory, work.to_memory}) {
    if (memory == nullptr || !memory->is_gone) continue;
    error = absl::InternalError(
        absl::StrCat("gpu: ", memory->name, " is gone with its process"));
    return false;
  }
  SimGpus::Faults& faults = gpus_.faults_[node_.rank];
  if (faults.copies_to_fail == 0) return false;
  --faults.copies_to_fail;
  error = absl::InternalError(absl::StrCat("gpu: ", work.what, " failed"));
  gpus_.Injected(FaultKind::kGpuCopyFails);
  return true;
}

void SimGpuDriver::CheckSource(const SimGpuWork& work) {
  const auto changed =
      std::mismatch(work.source.begin(), work.source.end(), work.from);
  if (changed.first == work.source.end()) return;
  gpus_.Violated(
      "gpu-race",
      absl::StrCat("a thread of ", node_.label, " changes ",
                   work.from_memory->name, " at byte ",
                   changed.second - work.from_memory->base, " before ",
                   work.what, " has read it. Missing: the host must wait for ",
                   "that stream, or for an event or a callback behind that "
                   "copy"));
}

int64_t SimGpuDriver::StalledUntilNs() {
  const int64_t until_ns = gpus_.faults_[node_.rank].stalled_until_ns;
  return gpus_.Strikes(until_ns, FaultKind::kGpuStall) ? until_ns : 0;
}

// --- Callbacks ---

absl::Status SimGpuDriver::AddCallback(
    GpuStream stream, absl::AnyInvocable<void(absl::Status)> callback) {
  const InSimulator in;
  Enter();
  auto found = StreamOf(stream);
  if (!found.ok()) return found.status();
  SimGpuStream& queue = **found;
  SimGpuWork work;
  work.kind = SimGpuWork::Kind::kCallback;
  queue.Announce(work.kind, 0, work.what);
  queue.clock().Join(gpus_.host_clock_);
  work.clock = queue.clock();
  work.callback = std::move(callback);
  AnnounceRelease(this);
  queue.Put(std::move(work));
  return absl::OkStatus();
}

void SimGpuDriver::RunCallback(SimGpuStream& stream,
                               absl::AnyInvocable<void(absl::Status)> callback,
                               const absl::Status& status,
                               const VectorClock& clock) {
  callbacks_.push_back({&stream, std::move(callback), status, clock});
  if (thread_ == nullptr) {
    thread_ = world().scheduler().Start(
        node_, "gpu", [this] { RunDriverThread(); }, /*daemon=*/true);
  } else if (thread_waits_) {
    thread_waits_ = false;
    world().scheduler().Wake(thread_);
  }
}

void SimGpuDriver::RunDriverThread() {
  const InSimulator in;
  for (;;) {
    while (!callbacks_.empty()) {
      Callback next = std::move(callbacks_.front());
      callbacks_.pop_front();
      gpus_.HostKnows(next.clock);
      {
        AnnounceAcquire(this);
        const OutOfSimulator out;
        next.call(next.status);
        next.call = nullptr;
      }
      next.stream->CallbackReturned();
    }
    thread_waits_ = true;
    world().scheduler().Block(WaitSite(), {"waits for", "callbacks"},
                              Scheduler::kNever);
  }
}

// --- Events ---

absl::StatusOr<std::shared_ptr<SimGpuEvent>> SimGpuDriver::EventOf(
    GpuEvent event) {
  const auto found = events_.find(event.handle);
  if (found == events_.end() || found->second.device != event.device) {
    return absl::InternalError(absl::StrCat("gpu: device ", event.device,
                                            " has no event ", event.handle));
  }
  const std::shared_ptr<SimGpuEvent>& held = found->second.event;
  if (held->is_destroyed) {
    gpus_.Violated("gpu-handle",
                   absl::StrCat(gpus_.ThreadOf(node_), " uses ", held->name,
                                " after its owner destroyed it"));
  }
  return held;
}

absl::StatusOr<GpuEvent> SimGpuDriver::CreateEvent(int device, bool is_shared) {
  const InSimulator in;
  Enter();
  if (auto status = CheckDevice(device); !status.ok()) return status;
  const GpuEvent event{device, ++last_event_};
  auto held = std::make_shared<SimGpuEvent>();
  held->id = ++gpus_.num_events_;
  held->owner = &node_;
  held->host = host_;
  held->name =
      absl::StrCat("event ", node_.label, "/gpu", device, "/", event.handle);
  held->is_shared = is_shared;
  events_[event.handle] = {device, std::move(held)};
  return event;
}

void SimGpuDriver::DestroyEvent(GpuEvent event) {
  const InSimulator in;
  Enter();
  const auto found = events_.find(event.handle);
  if (found == events_.end()) return;
  if (found->second.event->owner == &node_) {
    found->second.event->is_destroyed = true;
  }
  events_.erase(found);
}

absl::Status SimGpuDriver::Record(GpuEvent event, GpuStream stream) {
  const InSimulator in;
  Enter();
  auto found = StreamOf(stream);
  if (!found.ok()) return found.status();
  auto held = EventOf(event);
  if (!held.ok()) return held.status();
  if (event.device != stream.device) {
    return absl::InternalError(
        "gpu: an event is recorded on a stream of another device");
  }
  SimGpuStream& queue = **found;
  SimGpuWork work;
  work.kind = SimGpuWork::Kind::kRecord;
  queue.Announce(work.kind, 0, work.what);
  queue.clock().Join(gpus_.host_clock_);
  auto record = std::make_shared<SimGpuRecord>();
  record->clock = queue.clock();
  queue.NoteRecord(queue.clock().At(queue.timeline()), (*held)->name);
  (*held)->latest = record;
  work.record = std::move(record);
  queue.Put(std::move(work));
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<SimGpuRecord>> SimGpuDriver::RecordToAwait(
    GpuEvent event, std::string_view who) {
  auto held = EventOf(event);
  if (!held.ok()) return held.status();
  if ((*held)->latest == nullptr) {
    gpus_.Violated("gpu-event",
                   absl::StrCat(std::string(who), " waits for ", (*held)->name,
                                ", which was never recorded: the wait holds "
                                "nothing up. Missing: a record before it"));
  }
  return (*held)->latest;
}

absl::Status SimGpuDriver::Wait(GpuStream stream, GpuEvent event) {
  const InSimulator in;
  Enter();
  auto found = StreamOf(stream);
  if (!found.ok()) return found.status();
  SimGpuStream& queue = **found;
  auto record = RecordToAwait(event, queue.name());
  if (!record.ok()) return record.status();
  if (*record == nullptr) return absl::OkStatus();
  SimGpuWork work;
  work.kind = SimGpuWork::Kind::kWait;
  queue.Announce(work.kind, 0, work.what);
  queue.clock().Join((*record)->clock);
  work.record = *std::move(record);
  queue.Put(std::move(work));
  return absl::OkStatus();
}

absl::StatusOr<bool> SimGpuDriver::IsDone(GpuEvent event) {
  const InSimulator in;
  Enter();
  if (auto status = CheckDevice(event.device); !status.ok()) return status;
  auto held = EventOf(event);
  if (!held.ok()) return held.status();
  const std::shared_ptr<SimGpuRecord> record = (*held)->latest;
  if (record == nullptr) return true;
  if (!record->is_done) return false;
  gpus_.HostKnows(record->clock);
  if (!record->status.ok()) return record->status;
  return true;
}

absl::Status SimGpuDriver::Synchronize(GpuEvent event) {
  const InSimulator in;
  Enter();
  if (auto status = CheckDevice(event.device); !status.ok()) return status;
  auto found = RecordToAwait(event, gpus_.ThreadOf(node_));
  if (!found.ok()) return found.status();
  const std::shared_ptr<SimGpuRecord> record = *std::move(found);
  if (record == nullptr) return absl::OkStatus();
  AwaitRecord(world(), WaitSite(), "an event", record);
  gpus_.HostKnows(record->clock);
  return record->status;
}

}  // namespace reprise

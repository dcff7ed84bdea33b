#include "sim/device/gpu_stream.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "sim/device/sim_gpu_driver.h"
#include "sim/device/sim_gpus.h"
#include "sim/world/latency.h"

namespace reprise {
namespace {

constexpr size_t kRecordsKept = 16;

std::string_view NameOfKind(SimGpuWork::Kind kind) {
  switch (kind) {
    case SimGpuWork::Kind::kCopy:
      return "copy";
    case SimGpuWork::Kind::kRecord:
      return "record";
    case SimGpuWork::Kind::kWait:
      return "wait";
    case SimGpuWork::Kind::kCallback:
      return "callback";
  }
  return "?";
}

}  // namespace

SimGpuStream::SimGpuStream(SimGpuDriver& driver, GpuStream stream,
                           size_t timeline)
    : driver_(driver),
      world_(driver.world()),
      node_(driver.node()),
      device_(stream.device),
      label_(stream.handle == GpuStream::kDefault
                 ? absl::StrCat("gpu", stream.device, "/default")
                 : absl::StrCat("gpu", stream.device, "/", stream.handle)),
      name_(absl::StrCat("stream ", node_.label, "/", label_)),
      timeline_(timeline),
      site_(*world_.decisions().SiteAt(node_.label, label_)),
      // Above the numbers of connections, which order the network's events.
      order_((HashBytes(name_) >> 2) | (uint64_t{1} << 62)) {}

void SimGpuStream::Announce(SimGpuWork::Kind kind, size_t num_bytes,
                            std::string& what) {
  const uint64_t number = last_number_ + 1;
  what = kind == SimGpuWork::Kind::kCopy
             ? absl::StrCat("copy ", number, " of ", num_bytes, " bytes on ",
                            name_)
             : absl::StrCat(std::string(NameOfKind(kind)), " ", number, " on ",
                            name_);
  world_.Record(&node_, {.kind = EventKind::kGpuPut,
                         .id = number,
                         .num_bytes = static_cast<int64_t>(num_bytes),
                         .text = what});
}

uint64_t SimGpuStream::Put(SimGpuWork work) {
  work.number = ++last_number_;
  if (is_dead_) return last_number_;
  if (work.kind != SimGpuWork::Kind::kWait) work.duration_ns += DrawLatencyNs();
  queue_.push_back(std::move(work));
  RunNext();
  return last_number_;
}

int64_t SimGpuStream::DrawLatencyNs() {
  const SimGpuOptions& options = driver_.options();
  site_.Visit();
  return reprise::DrawLatencyNs(world_.decisions(), site_,
                                {.min_ns = options.latency_min_ns,
                                 .spread_ns = options.latency_spread_ns,
                                 .spike_one_in = options.spike_one_in,
                                 .spike_max_ns = options.spike_max_ns});
}

void SimGpuStream::RunNext() {
  while (!is_dead_ && !is_running_ && !queue_.empty()) {
    SimGpuWork& work = queue_.front();
    if (work.kind != SimGpuWork::Kind::kWait) {
      Begin(work);
      return;
    }
    SimGpuRecord& record = *work.record;
    // After an error nothing is done that would have to be waited for.
    if (!record.is_done && error_.ok()) {
      const auto known =
          std::find(record.streams.begin(), record.streams.end(), this);
      if (known == record.streams.end()) record.streams.push_back(this);
      return;
    }
    if (error_.ok()) error_ = record.status;
    Pop();
  }
}

void SimGpuStream::Begin(SimGpuWork& work) {
  is_running_ = true;
  if (work.kind == SimGpuWork::Kind::kCopy && !work.has_source &&
      (work.from_memory == nullptr || work.from_memory->gpu == nullptr)) {
    work.source.assign(work.from, work.num_bytes);
    work.has_source = true;
  }
  int64_t begin_ns = world_.now_ns();
  const int64_t stalled_until_ns = driver_.StalledUntilNs();
  if (is_dead_) return;  // A fault may have struck.
  if (stalled_until_ns > begin_ns && !is_lost_) {
    if (stalled_until_ns == Scheduler::kNever) {
      is_stuck_ = true;
      return;
    }
    begin_ns = stalled_until_ns;
  }
  world_.At(begin_ns + work.duration_ns, {order_, work.number},
            [this] { Finish(); });
}

void SimGpuStream::Finish() {
  if (is_dead_) return;
  SimGpuWork& work = queue_.front();
  const bool fails = work.kind == SimGpuWork::Kind::kCopy && error_.ok() &&
                     driver_.TakesCopyFailure(work, error_);
  if (is_dead_) return;
  world_.Record(&node_, {.kind = EventKind::kGpuDone,
                         .id = work.number,
                         .code = error_.code(),
                         .text = work.what});
  // A fault may have struck at these events.
  if (is_dead_) return;
  switch (work.kind) {
    case SimGpuWork::Kind::kCopy:
      if (error_.ok() || fails) FinishCopy(work, fails);
      break;
    case SimGpuWork::Kind::kRecord:
      CompleteRecord(world_, *work.record, error_);
      break;
    case SimGpuWork::Kind::kCallback:
      // What comes behind it waits until it has returned.
      driver_.RunCallback(*this, std::move(work.callback), error_, work.clock);
      return;
    case SimGpuWork::Kind::kWait:
      break;
  }
  Pop();
  is_running_ = false;
  RunNext();
}

void SimGpuStream::FinishCopy(SimGpuWork& work, bool failed) {
  const size_t num_bytes = failed ? work.num_bytes / 2 : work.num_bytes;
  // Memory of the host that the driver does not know was read at the call.
  const bool is_read_now = work.from_memory != nullptr;
  if (is_read_now && work.has_source) {
    driver_.CheckSource(work);
  }
  std::memmove(work.to, is_read_now ? work.from : work.source.data(),
               num_bytes);
}

void SimGpuStream::CallbackReturned() {
  if (is_dead_) return;
  Pop();
  is_running_ = false;
  RunNext();
}

void SimGpuStream::Pop() {
  done_number_ = queue_.front().number;
  queue_.pop_front();
  std::vector<Fiber*> waiting = std::move(waiting_);
  waiting_.clear();
  for (Fiber* fiber : waiting) world_.scheduler().Wake(fiber);
}

void SimGpuStream::Await(uint64_t number) {
  while (!IsDone(number) && !is_dead_) {
    waiting_.push_back(world_.scheduler().current());
    world_.scheduler().Block(driver_.WaitSite(), {"waits for", name_},
                             Scheduler::kNever);
  }
}

uint64_t SimGpuStream::LastUseOf(const SimGpuMemory& memory) const {
  for (auto work = queue_.rbegin(); work != queue_.rend(); ++work) {
    if (work->from_memory.get() == &memory ||
        work->to_memory.get() == &memory) {
      return work->number;
    }
  }
  return 0;
}

void SimGpuStream::ErrorWasReported() {
  if (queue_.empty() && !is_lost_) error_ = absl::OkStatus();
}

void SimGpuStream::Lose(const absl::Status& why) {
  if (is_dead_) return;
  is_lost_ = true;
  error_ = why;
  if (is_stuck_) {
    is_stuck_ = false;
    world_.At(world_.now_ns(), {order_, queue_.front().number},
              [this] { Finish(); });
  }
  RunNext();
}

void SimGpuStream::Die() {
  is_dead_ = true;
  for (SimGpuWork& work : queue_) {
    if (work.kind == SimGpuWork::Kind::kRecord) {
      CompleteRecord(world_, *work.record,
                     absl::InternalError(absl::StrCat(
                         "gpu: the process of ", name_,
                         " died before the work that was waited for")));
    }
    if (work.callback) {
      // It holds pieces of what was abandoned, and is never destroyed.
      [[maybe_unused]] auto* abandoned =
          new absl::AnyInvocable<void(absl::Status)>(std::move(work.callback));
    }
  }
  queue_.clear();
}

void SimGpuStream::NoteRecord(uint64_t epoch, const std::string& event) {
  records_.emplace_back(epoch, event);
  if (records_.size() > kRecordsKept) records_.pop_front();
}

std::string SimGpuStream::RecordedAfter(uint64_t epoch) const {
  for (const auto& [recorded, event] : records_) {
    if (recorded >= epoch) return event;
  }
  return "";
}

void CompleteRecord(World& world, SimGpuRecord& record,
                    const absl::Status& status) {
  if (record.is_done) return;
  record.is_done = true;
  record.status = status;
  for (SimGpuStream* stream : record.streams) stream->RunNext();
  record.streams.clear();
  for (Fiber* fiber : record.fibers) world.scheduler().Wake(fiber);
  record.fibers.clear();
}

void AwaitRecord(World& world, Site& site, std::string_view event,
                 const std::shared_ptr<SimGpuRecord>& record) {
  while (!record->is_done) {
    record->fibers.push_back(world.scheduler().current());
    world.scheduler().Block(site, {"waits for", event}, Scheduler::kNever);
  }
}

}  // namespace reprise

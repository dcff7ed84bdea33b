// A stream of a simulated GPU: a queue of work that runs in virtual time.
//
// The clock of work is fixed when it is put on the stream, which is when the
// driver decides for which record a wait waits. Not thread-safe.

#ifndef REPRISE_SIM_DEVICE_GPU_STREAM_H_
#define REPRISE_SIM_DEVICE_GPU_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "agent/device/driver.h"
#include "sim/device/gpu_memory.h"
#include "sim/device/vector_clock.h"
#include "sim/world/world.h"

namespace reprise {

class SimGpuDriver;
class SimGpuStream;

// One call of `Record`.
struct SimGpuRecord {
  VectorClock clock;  // of the work before it
  bool is_done = false;
  // Why the work before it failed. It reaches everything that waits for the
  // record, in other processes too.
  absl::Status status;
  std::vector<SimGpuStream*> streams;  // that wait for it
  std::vector<Fiber*> fibers;
};

struct SimGpuEvent {
  uint64_t id = 0;
  const Node* owner = nullptr;
  int host = 0;
  std::string name;  // "event w0/gpu1/3"
  bool is_shared = false;
  bool is_destroyed = false;             // by its owner
  std::shared_ptr<SimGpuRecord> latest;  // null: it was never recorded
};

struct SimGpuWork {
  enum class Kind : uint8_t { kCopy, kRecord, kWait, kCallback };

  Kind kind = Kind::kCopy;
  std::string what;         // "copy 3 of 64 bytes on stream w0/gpu0/1"
  uint64_t number = 0;      // in its stream, from 1
  int64_t duration_ns = 0;  // besides a latency, which is drawn

  // Of a copy. A memory is null for memory of the host that the driver does not
  // know.
  char* to = nullptr;
  const char* from = nullptr;
  size_t num_bytes = 0;
  std::shared_ptr<SimGpuMemory> to_memory;
  std::shared_ptr<SimGpuMemory> from_memory;
  // Of a copy out of memory of the host: what it must find there. It is taken
  // when the copy is put on the stream, or when its turn comes if work on GPUs
  // still writes there.
  std::string source;
  bool has_source = false;

  std::shared_ptr<SimGpuRecord> record;  // of a record or a wait
  VectorClock clock;                     // of a callback
  absl::AnyInvocable<void(absl::Status)> callback = {};  // of a callback
};

class SimGpuStream {
 public:
  SimGpuStream(SimGpuDriver& driver, GpuStream stream, size_t timeline);
  SimGpuStream(const SimGpuStream&) = delete;
  SimGpuStream& operator=(const SimGpuStream&) = delete;

  int device() const { return device_; }
  size_t timeline() const { return timeline_; }
  const std::string& name() const { return name_; }  // "stream w0/gpu0/1"
  bool IsOf(const Node& node) const { return &node_ == &node; }
  // The clock of what is put on the stream next.
  VectorClock& clock() { return clock_; }

  // To be called first by whoever puts work on it, as it may not return: a
  // fault may crash the node. Sets `what` to the name of the work.
  void Announce(SimGpuWork::Kind kind, size_t num_bytes, std::string& what);
  // Returns the work's number. A latency is added to its duration.
  uint64_t Put(SimGpuWork work);

  // Blocks until the work with this number is done.
  void Await(uint64_t number);
  uint64_t last_number() const { return last_number_; }
  // Whether work up to this number has run.
  bool IsDone(uint64_t number) const { return done_number_ >= number; }
  // The number of the last copy that touches the memory and has not ended; 0
  // for none.
  uint64_t LastUseOf(const SimGpuMemory& memory) const;

  // The error of the work so far.
  const absl::Status& error() const { return error_; }
  // The host was told the error. Work that is put on the stream later runs
  // again, unless earlier work is left or the device is lost.
  void ErrorWasReported();

  // For `SimGpuRecord` and the driver's thread.
  void RunNext();
  void CallbackReturned();

  // The device is lost: nothing runs from now on, and everything ends.
  void Lose(const absl::Status& why);
  // The process is dead. Its work vanishes.
  void Die();

  // The events that were recorded on it lately: epoch and name.
  void NoteRecord(uint64_t epoch, const std::string& event);
  std::string RecordedAfter(uint64_t epoch) const;

 private:
  int64_t DrawLatencyNs();
  void Begin(SimGpuWork& work);
  void Finish();
  void FinishCopy(SimGpuWork& work, bool failed);
  void Pop();

  SimGpuDriver& driver_;
  World& world_;
  Node& node_;
  const int device_;
  const std::string label_;  // "gpu0/1"
  const std::string name_;
  const size_t timeline_;
  Site& site_;
  const uint64_t order_;
  VectorClock clock_;
  std::deque<SimGpuWork> queue_;  // the first one runs or waits
  bool is_running_ = false;
  bool is_stuck_ = false;  // by a stall that never ends
  bool is_lost_ = false;
  bool is_dead_ = false;
  uint64_t last_number_ = 0;
  uint64_t done_number_ = 0;
  absl::Status error_;
  std::vector<Fiber*> waiting_;
  std::deque<std::pair<uint64_t, std::string>> records_;
};

// Lets everything that waits for the record go on.
void CompleteRecord(World& world, SimGpuRecord& record,
                    const absl::Status& status);

// Blocks until the record is done.
void AwaitRecord(World& world, Site& site, std::string_view event,
                 const std::shared_ptr<SimGpuRecord>& record);

}  // namespace reprise

#endif  // REPRISE_SIM_DEVICE_GPU_STREAM_H_

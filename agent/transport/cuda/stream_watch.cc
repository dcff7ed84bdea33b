#include "agent/transport/cuda/stream_watch.h"

#include <deque>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "agent/runtime/mutex.h"

namespace reprise {

// What is watched on one device. Whoever is owed a callback keeps it alive.
class StreamWatch::Queue : public std::enable_shared_from_this<Queue> {
 public:
  Queue(GpuDriver& driver, CallbackThread& callbacks)
      : driver_(driver),
        callbacks_(callbacks),
        mutex_(callbacks.runtime(), "cuda_stream_watch") {}
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;
  ~Queue() {
    for (const GpuEvent event : free_events_) driver_.DestroyEvent(event);
    if (has_beside_) driver_.DestroyStream(beside_);
  }

  absl::Status Add(GpuStream stream, CallbackThread::Done done, int num_looks);

 private:
  struct Watched {
    GpuEvent event;  // recorded when the work was there
    CallbackThread::Done done;
  };

  absl::StatusOr<GpuEvent> RecordOn(GpuStream stream)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether the event has come within the looks; also if it has failed.
  bool Look(GpuEvent event, int num_looks, absl::Status& status);
  // Asks to be called back when the first that is watched is done.
  absl::Status Arm() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The work of the first that is watched is done, or all work has failed.
  void OnDone(const absl::Status& status);
  // Takes what is done off the queue: the first, and those after it that are.
  std::vector<Watched> TakeDone() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Nobody will call back any more for what is watched: waits for it.
  void Drain();

  GpuDriver& driver_;
  CallbackThread& callbacks_;
  Mutex mutex_;
  bool has_beside_ ABSL_GUARDED_BY(mutex_) = false;
  GpuStream beside_ ABSL_GUARDED_BY(mutex_);
  std::vector<GpuEvent> free_events_ ABSL_GUARDED_BY(mutex_);
  // A callback is owed as long as there are any.
  std::deque<Watched> watched_ ABSL_GUARDED_BY(mutex_);
};

absl::Status StreamWatch::Queue::Add(GpuStream stream,
                                     CallbackThread::Done done, int num_looks) {
  absl::Status status;
  bool is_done = false;
  {
    const MutexLock lock(mutex_);
    if (!has_beside_) {
      absl::StatusOr<GpuStream> beside = driver_.CreateStream(stream.device);
      if (!beside.ok()) return beside.status();
      beside_ = *beside;
      has_beside_ = true;
    }
    const absl::StatusOr<GpuEvent> event = RecordOn(stream);
    if (!event.ok()) return event.status();
    is_done = watched_.empty() && Look(*event, num_looks, status);
    if (is_done) {
      free_events_.push_back(*event);
    } else {
      watched_.push_back({*event, std::move(done)});
      if (watched_.size() > 1) return absl::OkStatus();
      status = Arm();
      if (status.ok()) return status;
      watched_.pop_front();
      free_events_.push_back(*event);
      return status;
    }
  }
  done(status);
  return absl::OkStatus();
}

absl::StatusOr<GpuEvent> StreamWatch::Queue::RecordOn(GpuStream stream) {
  absl::StatusOr<GpuEvent> event;
  if (free_events_.empty()) {
    event = driver_.CreateEvent(stream.device, /*is_shared=*/false);
    if (!event.ok()) return event;
  } else {
    event = free_events_.back();
    free_events_.pop_back();
  }
  absl::Status status = driver_.Record(*event, stream);
  if (status.ok()) return event;
  driver_.DestroyEvent(*event);
  return status;
}

bool StreamWatch::Queue::Look(GpuEvent event, int num_looks,
                              absl::Status& status) {
  for (int i = 0; i < num_looks; ++i) {
    const absl::StatusOr<bool> is_done = driver_.IsDone(event);
    if (is_done.ok() && !*is_done) continue;
    status = is_done.status();
    return true;
  }
  return false;
}

absl::Status StreamWatch::Queue::Arm() {
  absl::Status status = driver_.Wait(beside_, watched_.front().event);
  if (!status.ok()) return status;
  return callbacks_.WhenDone(driver_, beside_,
                             [self = shared_from_this()](absl::Status status) {
                               self->OnDone(status);
                             });
}

void StreamWatch::Queue::OnDone(const absl::Status& status) {
  std::vector<Watched> done;
  bool is_armed = true;
  {
    const MutexLock lock(mutex_);
    done = TakeDone();
    if (!watched_.empty()) is_armed = Arm().ok();
  }
  for (Watched& watched : done) watched.done(status);
  if (!is_armed) Drain();
}

std::vector<StreamWatch::Queue::Watched> StreamWatch::Queue::TakeDone() {
  std::vector<Watched> done;
  do {
    free_events_.push_back(watched_.front().event);
    done.push_back(std::move(watched_.front()));
    watched_.pop_front();
  } while (!watched_.empty() &&
           driver_.IsDone(watched_.front().event).value_or(false));
  return done;
}

void StreamWatch::Queue::Drain() {
  while (true) {
    GpuEvent event;
    {
      const MutexLock lock(mutex_);
      event = watched_.front().event;
    }
    const absl::Status status = driver_.Synchronize(event);
    CallbackThread::Done done;
    bool is_last = false;
    {
      // The queue stays as it is until here: whoever finds it empty arms.
      const MutexLock lock(mutex_);
      done = std::move(watched_.front().done);
      watched_.pop_front();
      free_events_.push_back(event);
      is_last = watched_.empty();
    }
    done(status);
    if (is_last) return;
  }
}

absl::Status StreamWatch::After(GpuStream stream, CallbackThread::Done done,
                                int num_looks) {
  std::shared_ptr<Queue>& queue = queues_[stream.device];
  if (queue == nullptr) queue = std::make_shared<Queue>(driver_, callbacks_);
  absl::Status status = queue->Add(stream, std::move(done), num_looks);
  if (!status.ok()) driver_.Synchronize(stream).IgnoreError();
  return status;
}

}  // namespace reprise

// One end of a bare pipe of TensorPipe's over a transport and a channel of
// ours, with functions that wait.

#ifndef REPRISE_TESTS_GPU_PIPE_END_H_
#define REPRISE_TESTS_GPU_PIPE_END_H_

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/device/device.h"
#include "agent/device/devices.h"
#include "agent/device/stream_set.h"
#include "tensorpipe/tensorpipe.h"

namespace reprise::gpu {

// A channel and what it runs over.
struct Way {
  std::string channel;    // "cuda_ipc", ...
  std::string transport;  // "shm" or "uv"
  // The ends take each other for processes of two hosts, as far as the channel
  // is concerned: no shared memory. Only for cuda_host.
  bool is_remote = false;

  std::string ToString() const;
};

// A tensor, or a part of one.
struct Piece {
  std::shared_ptr<Storage> storage;
  size_t offset = 0;
  size_t num_bytes = 0;

  static Piece Whole(std::shared_ptr<Storage> storage) {
    const size_t num_bytes = storage->num_bytes();
    return {std::move(storage), 0, num_bytes};
  }
};

struct PipeMessage {
  std::string text;
  std::vector<Piece> tensors;
  // Where tensors to send are ready, and those that came arrive.
  StreamSet streams;
};

// Something that is done later, on a thread of TensorPipe's.
class Pending {
 public:
  void Complete(absl::Status status);
  // Spins at first: other processes are to be waited for as briefly as
  // possible. DEADLINE_EXCEEDED after a minute.
  absl::Status Wait();
  bool is_done() const { return is_done_.load(std::memory_order_acquire); }

 private:
  absl::Status status_;
  std::atomic<bool> is_done_ = false;
};

// A context that has this way alone.
class PipeContext {
 public:
  // UNAVAILABLE with the reason when the way does not work here.
  static absl::StatusOr<std::unique_ptr<PipeContext>> Make(const Way& way,
                                                           Devices& devices);
  ~PipeContext();

  // The URL of a listener, which lives as long as this object.
  std::string Listen();
  // The next pipe that arrives there.
  absl::StatusOr<std::shared_ptr<tensorpipe::Pipe>> Accept();
  std::shared_ptr<tensorpipe::Pipe> Connect(const std::string& url);

 private:
  PipeContext() = default;

  const std::shared_ptr<tensorpipe::Context> context_ =
      std::make_shared<tensorpipe::Context>();
  std::string transport_;
  std::string address_;
  std::shared_ptr<tensorpipe::Listener> listener_;
};

// One thread at a time may read, and one write.
class PipeEnd {
 public:
  PipeEnd(Devices& devices, std::shared_ptr<tensorpipe::Pipe> pipe)
      : devices_(devices), pipe_(std::move(pipe)) {}
  ~PipeEnd() { pipe_->close(); }

  // Done when the channel has called back. Keeps what is sent until then.
  std::shared_ptr<Pending> Write(PipeMessage message);

  // A message that has begun to arrive: all but the bytes of its tensors.
  struct Arriving {
    PipeMessage message;
    Pending read;
  };

  // Waits for the next message to begin, and begins to read it. Its tensors lie
  // on the first GPU, in new memory, or, if there is `into`, at the beginning
  // of that. Once `read` is done they are there for work that is put on its
  // streams. The next message may be begun before.
  absl::StatusOr<std::shared_ptr<Arriving>> BeginRead(
      const std::shared_ptr<Storage>& into = nullptr);

  // The next message, read.
  absl::StatusOr<PipeMessage> Read(
      const std::shared_ptr<Storage>& into = nullptr);

 private:
  Devices& devices_;
  const std::shared_ptr<tensorpipe::Pipe> pipe_;
};

}  // namespace reprise::gpu

#endif  // REPRISE_TESTS_GPU_PIPE_END_H_

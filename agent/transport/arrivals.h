// When bytes last arrived from the other end of a pipe.
//
// TensorPipe tells when a message has been read or written as a whole. Whether
// a message that takes minutes still moves is known only to the connections
// that carry it: those of the pipe itself, and those of its channels. Each
// transport's connections answer for themselves (`ArrivalClock`), and
// `PipeArrivals` finds the connections of a pipe: TensorPipe gives each of them
// an id that contains the name of the pipe's other end, and the agent makes
// that name unique by a number. By that number it is also known between which
// devices a pipe has channels, which TensorPipe does not tell either.

#ifndef REPRISE_AGENT_TRANSPORT_ARRIVALS_H_
#define REPRISE_AGENT_TRANSPORT_ARRIVALS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "agent/runtime/fifo.h"
#include "agent/runtime/native_mutex.h"
#include "tensorpipe/channel/mpt/nop_types.h"
#include "tensorpipe/common/device.h"
#include "tensorpipe/core/nop_types.h"

namespace reprise {

// A connection of a transport that can answer implements this beside
// `tensorpipe::transport::Connection`; `dynamic_cast` finds it.
class ArrivalClock {
 public:
  virtual ~ArrivalClock() = default;

  // How long ago the last byte arrived at this machine, also when nobody has
  // read it yet, and when it lies in the middle of a frame. Infinite before the
  // first byte and after the end. May be called on any thread; does not wait
  // and calls nothing of TensorPipe's.
  virtual absl::Duration SinceArrival() = 0;
};

// One for all transports of an agent. Thread-safe.
class PipeArrivals {
 public:
  // A number for a pipe that is about to be opened. Never 0.
  uint64_t NewPipe();

  // "w1#7", the name under which TensorPipe must know the other end of pipe 7.
  static std::string NameOf(std::string_view peer, uint64_t pipe);
  // Takes such a name apart. The number is 0 when there is none.
  static std::pair<std::string_view, uint64_t> Parse(std::string_view name);

  // Of a peer that connects: gives its pipe a number, and adds that to the name
  // that it claims. Must be called before TensorPipe sees the hello.
  void NumberCaller(tensorpipe::Packet& hello);

  // `id` is TensorPipe's of this connection. Returns the number of its pipe, or
  // 0. `Leave` must be called before the connection is destroyed.
  uint64_t Enter(std::string_view id, ArrivalClock* connection);
  void Leave(ArrivalClock* connection);

  // The lanes of the channel mpt get no id. A hello of the callee's, sent or
  // received over a connection of pipe `pipe`, offers lanes, each a number at
  // the address of a listener; the caller's hello on a lane claims one.
  void OfferLanes(uint64_t pipe,
                  const tensorpipe::channel::mpt::ServerHello& hello);
  void ClaimLane(const std::string& address,
                 const tensorpipe::channel::mpt::ClientHello& hello,
                 ArrivalClock* connection);

  // A connection of the pipe carries the callee's answer to the caller's
  // brochure, which says what channels there are.
  void NoteAnswer(uint64_t pipe, const tensorpipe::BrochureAnswer& answer,
                  bool are_we_caller);
  // Whether tensors can go between these devices. False before the answer is
  // known, after the pipe has failed, and always between CPUs.
  bool HasChannel(uint64_t pipe, const tensorpipe::Device& ours,
                  const tensorpipe::Device& theirs);
  // Calls `answered` once the answer is known, at once or on a thread of the
  // transport, where it must not block. It is dropped when the pipe fails.
  void WhenAnswered(uint64_t pipe, std::function<void()> answered);
  void ForgetWaiter(uint64_t pipe);

  // How long ago a byte last arrived on any connection of the pipe. Infinite
  // when none has arrived, and when there is no such pipe.
  absl::Duration SinceArrival(uint64_t pipe);

  // The connections of the pipe that are known.
  size_t num_connections(uint64_t pipe);

 private:
  using Lane = std::pair<std::string, uint64_t>;

  // As many offers are remembered of lanes that nobody has claimed.
  static constexpr size_t kMaxOffers = size_t{1} << 16;

  struct Pipe {
    std::set<ArrivalClock*> connections;
    bool is_answered = false;
    // Our device and the peer's, unless both are CPUs.
    std::unordered_set<std::pair<tensorpipe::Device, tensorpipe::Device>>
        channels;
    std::function<void()> waiter;
  };

  void EnterPipe(uint64_t pipe, ArrivalClock* connection)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  NativeMutex mutex_;
  uint64_t last_pipe_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, Pipe> pipes_ ABSL_GUARDED_BY(mutex_);
  std::map<ArrivalClock*, uint64_t> pipe_of_ ABSL_GUARDED_BY(mutex_);
  std::map<Lane, uint64_t> offers_ ABSL_GUARDED_BY(mutex_);
  Fifo<Lane> oldest_offers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_ARRIVALS_H_

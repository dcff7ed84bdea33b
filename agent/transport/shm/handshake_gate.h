// Holds back the connections of a shm listener until their peers have said
// hello, so that TensorPipe never hears of the others: one connection that
// fails kills a listener of TensorPipe's.
//
// A connection that waits costs a descriptor and a timer. It is dropped when it
// says something else, when it goes away, after `kTimeoutNs`, and when more
// than `kMaxPending` wait in the process, the oldest first.

#ifndef REPRISE_AGENT_TRANSPORT_SHM_HANDSHAKE_GATE_H_
#define REPRISE_AGENT_TRANSPORT_SHM_HANDSHAKE_GATE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <utility>

#include "agent/transport/shm/file_descriptor.h"
#include "agent/transport/shm/hello.h"
#include "agent/transport/shm/loop.h"

namespace reprise::shm {

// Of one listener. The loop's thread's.
class HandshakeGate final : public std::enable_shared_from_this<HandshakeGate> {
 public:
  static constexpr int64_t kTimeoutNs = 30'000'000'000;
  static constexpr int64_t kMaxPending = 256;
  // A gate keeps this many whatever goes on at others.
  static constexpr size_t kMinPending = 16;

  using Admit = std::function<void(FileDescriptor, PeerHello)>;

  HandshakeGate(Loop& loop, Admit admit, int64_t timeout_ns = kTimeoutNs)
      : loop_(loop), admit_(std::move(admit)), timeout_ns_(timeout_ns) {}

  // A connection has come.
  void Add(FileDescriptor socket);
  // Drops all. Before the loop ends.
  void Close();

  // Of all gates in this process.
  static int64_t num_dropped();

 private:
  struct Pending {
    FileDescriptor socket;
    uint64_t watch = 0;
    Loop::TimerId timeout;
    Loop::TimerId pause;
  };
  using Place = std::list<Pending>::iterator;

  // How long the hellos are left where they are when there are too few
  // descriptors to take them.
  static constexpr int64_t kPauseNs = 100'000'000;

  // 0 or an error of libuv's.
  int Watch(Place pending);
  void OnReadable(Place pending);
  void Drop(Place pending, const char* why);
  FileDescriptor Release(Place pending);

  Loop& loop_;
  const Admit admit_;
  const int64_t timeout_ns_;
  std::list<Pending> pending_;  // the oldest first
};

}  // namespace reprise::shm

#endif  // REPRISE_AGENT_TRANSPORT_SHM_HANDSHAKE_GATE_H_

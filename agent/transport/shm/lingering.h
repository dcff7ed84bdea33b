// What is left of a connection that was closed before a peer of TensorPipe's
// own transport could bear it.
//
// Such a peer loses what it has not read when the socket is closed, and its
// process ends if it is closed before it has said its hello (it sends without
// MSG_NOSIGNAL). So the socket stays open until the peer has read everything,
// or has said hello, or has gone, or `kLongestNs` are over.

#ifndef REPRISE_AGENT_TRANSPORT_SHM_LINGERING_H_
#define REPRISE_AGENT_TRANSPORT_SHM_LINGERING_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "agent/transport/shm/file_descriptor.h"
#include "agent/transport/shm/loop.h"
#include "agent/transport/shm/outbox.h"

namespace reprise::shm {

// Keeps itself, and the loop, alive while it lasts. The loop's thread's.
class Lingering final : public std::enable_shared_from_this<Lingering> {
 public:
  static constexpr int64_t kLongestNs = 5'000'000'000;
  // Once the context is closed, and somebody may wait for it.
  static constexpr int64_t kLongestAtEndNs = 100'000'000;

  // `outbox`: to be read; null: it is the hello that is waited for.
  static void Start(Loop& loop, FileDescriptor socket,
                    std::unique_ptr<Outbox> outbox);

  Lingering(Loop& loop, FileDescriptor socket, std::unique_ptr<Outbox> outbox)
      : loop_(loop), socket_(std::move(socket)), outbox_(std::move(outbox)) {}

 private:
  bool IsOver();
  void Look(int64_t pause_ns);

  Loop& loop_;
  FileDescriptor socket_;
  std::unique_ptr<Outbox> outbox_;
  const int64_t begin_ns_ = Loop::NowNs();
  int64_t stopped_ns_ = 0;
};

}  // namespace reprise::shm

#endif  // REPRISE_AGENT_TRANSPORT_SHM_LINGERING_H_

// A copy out of another process's memory that is good only if its owner had not
// let go of it.

#ifndef REPRISE_AGENT_TRANSPORT_CMA_REMOTE_COPY_H_
#define REPRISE_AGENT_TRANSPORT_CMA_REMOTE_COPY_H_

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "agent/transport/cma/environment.h"
#include "agent/transport/peer_liveness.h"
#include "tensorpipe/common/error.h"

namespace reprise {

// What is copied, and what shows that it was good.
struct RemoteCopy {
  ProcessMemory* memory = nullptr;
  pid_t pid = 0;
  uint64_t from = 0;
  void* into = nullptr;
  size_t length = 0;

  // With a sender of our own: where its `ValidityWord` is, and what it holds.
  uint64_t word = 0;  // 0: TensorPipe's own sender
  uint64_t value = 0;
  // With TensorPipe's own: of the connection that its descriptors come on,
  // which it closes before it lets go of any memory.
  std::shared_ptr<PeerLiveness> liveness;

  // Ends the copy with an error.
  std::shared_ptr<const std::atomic<bool>> stop;
  // Called once, after which `into` is not touched any more.
  std::function<void(const tensorpipe::Error&)> done;

  size_t copied = 0;  // so far

  // Copies a piece; false when all is done, and `done` was called. For
  // `Copier::Run`.
  bool Step();

 private:
  tensorpipe::Error CopyPiece(size_t size);
  // Whether what was copied so far was good.
  tensorpipe::Error Check() const;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CMA_REMOTE_COPY_H_

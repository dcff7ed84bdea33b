// The memory of a caller's that the tensors of a reply go to
// (`CallOptions::receive_into`), and who may write to it.
//
// At most one reply is written to it at a time. The attempts of a call with
// retries share it: the reply to an attempt that has timed out may still be
// arriving when that to the next one comes.

#ifndef REPRISE_AGENT_CLIENT_REPLY_MEMORY_H_
#define REPRISE_AGENT_CLIENT_REPLY_MEMORY_H_

#include <atomic>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "agent/call_options.h"
#include "agent/device/caching_allocator.h"
#include "agent/message.h"

namespace reprise {

// Thread-safe. It keeps the storages and the release guard as long as it lives,
// and whoever writes to the memory keeps it.
class ReplyMemory : public std::enable_shared_from_this<ReplyMemory> {
 public:
  explicit ReplyMemory(ReceiveInto into) : into_(std::move(into)) {}

  // Hands out the storages, one after another, each cut to the size that is
  // asked for. RESOURCE_EXHAUSTED, which no retry mends, when the next one is
  // too small or there is none. Null while an earlier result of this function
  // lives: it must live until everything was written.
  std::shared_ptr<CpuAllocator> Claim();

  // Copies the storages of `reply`'s tensors, in the order in which the tensors
  // mention them, and puts the copies in their places. The errors of `Claim`'s
  // allocator, and UNAVAILABLE, which a retry may mend, while another reply is
  // written to the memory.
  absl::Status CopyInto(Message& reply);

 private:
  class Writer;

  const ReceiveInto into_;
  std::atomic<bool> is_claimed_ = false;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_CLIENT_REPLY_MEMORY_H_

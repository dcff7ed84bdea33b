// A worker's agent, which is PyTorch's own or ours, so that one body runs on
// either.
//
// The handler understands requests by the first letter of their payload, and
// answers with the payload:
//
//   E...   at once
//   S<ms>  after so many milliseconds
//   F      with an error
//   R...   with an error the first time that this payload comes
//   N<rank> after a call "E" of its own to this rank

#ifndef REPRISE_TESTS_STOCK_PEER_H_
#define REPRISE_TESTS_STOCK_PEER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/call_options.h"
#include "sim/scenario/scenario.h"

namespace reprise::scenarios {

enum class PeerKind { kStock, kOurs };

struct PeerOptions {
  int num_worker_threads = 4;
  absl::Duration rpc_timeout = absl::Seconds(60);
  // Of a stock agent: see StockOptions.
  bool own_barrier_numbers = true;
};

// Waits for a call to end, and returns the reply's payload or the call's error;
// ABORTED if it has not ended by the deadline.
using PendingCall = std::function<absl::StatusOr<std::string>(absl::Time)>;

// Thread-safe. Must not outlive its worker.
class Peer {
 public:
  // Starts the worker's agent in a static group of all workers.
  static absl::StatusOr<std::unique_ptr<Peer>> Start(
      Worker& worker, PeerKind kind, const PeerOptions& options = {});
  virtual ~Peer() = default;

  // An error if the agent refuses to send. PyTorch's throws then.
  virtual absl::StatusOr<PendingCall> Send(
      int to, const std::string& payload,
      absl::Duration timeout = kUnsetTimeout) = 0;
  // A call with a tensor on a device that no device map has.
  virtual absl::StatusOr<PendingCall> SendUnmappedTensor(int to) = 0;
  // Tries again after any error, as PyTorch's does.
  virtual absl::StatusOr<PendingCall> SendWithRetries(
      int to, const std::string& payload) = 0;

  // The graceful end of the group.
  virtual absl::Status Join(absl::Duration timeout) = 0;
  virtual absl::Status Shutdown() = 0;

  // The calls that the agent believes to be pending.
  virtual int64_t active_calls() = 0;
};

// Notes `text` and the status, if it is not OK, in the story.
void NoteStatus(Worker& worker, const std::string& text,
                const absl::Status& status);

}  // namespace reprise::scenarios

#endif  // REPRISE_TESTS_STOCK_PEER_H_

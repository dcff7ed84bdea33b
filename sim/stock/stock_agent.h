// PyTorch's own agent, unmodified, as a worker of a simulated world.
//
// `StockAgent` starts the `TensorPipeAgent` of Debian's libtorch on the seams
// that our agent is started on: its TensorPipe uses the world's transport, and
// its store is a view of the world's. All threads that it makes are threads of
// the world, as sim/interpose stands in for those of libc. They must be OS
// threads (`Scenario::foreign_code`): libtorch is particular about
// `thread_local`.
//
// Nothing of libtorch's is in this header, which takes seconds to compile.

#ifndef REPRISE_SIM_STOCK_STOCK_AGENT_H_
#define REPRISE_SIM_STOCK_STOCK_AGENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/agent.h"

namespace reprise {

struct StockOptions {
  std::string name;
  int id = 0;
  // 0: a dynamic group.
  int world_size = 1;
  int num_worker_threads = 4;
  // Of calls without a timeout of their own, and of waits for the store.
  absl::Duration rpc_timeout = absl::Seconds(60);
  // Each agent of a world counts its barriers for itself, as it would in a
  // process of its own. False: as several agents of one process do it, which
  // share PyTorch's static counter.
  bool own_barrier_numbers = true;
};

// A call of a stock agent. It may be copied; the copies are one call.
class StockCall {
 public:
  struct State;
  explicit StockCall(std::shared_ptr<State> state);

  // The payload of the reply. The call's error, which is DEADLINE_EXCEEDED if
  // the agent says that it timed out and otherwise UNKNOWN, with the first line
  // of PyTorch's text. ABORTED if it has not ended by `deadline`.
  absl::StatusOr<std::string> Await(absl::Time deadline) const;

 private:
  std::shared_ptr<State> state_;
};

// A member of a dynamic group, as one that joins or leaves is announced to a
// stock agent. Devices are numbers of GPUs, none of which is ever used.
struct StockMember {
  std::string name;
  int id = 0;
  std::vector<int> devices = {};
  // The pairs of a device map, for the reverse map of a member "x".
  std::vector<std::pair<int, int>> reverse_map = {};
};

// Thread-safe as far as PyTorch's agent is. Whatever PyTorch throws is returned
// as a status, whose text is the first line of the exception's.
class StockAgent {
 public:
  // Answers a request's payload, on a thread of the agent's pool, or throws.
  using Handler =
      std::function<std::string(StockAgent& agent, const std::string& payload)>;

  // Blocks until the agent's group is complete, at most for `rpc_timeout` for
  // each access to the store. `environment` must outlive the agent.
  static absl::StatusOr<std::unique_ptr<StockAgent>> Start(
      const Environment& environment, const StockOptions& options,
      Handler handler);
  // Calls `Shutdown` if nobody has.
  ~StockAgent();

  // An error if PyTorch's `send` throws. A negative `timeout` is the agent's.
  absl::StatusOr<StockCall> Send(int to, const std::string& payload,
                                 absl::Duration timeout = kUnsetTimeout);
  // A call that carries a tensor of a device that no device map knows.
  absl::StatusOr<StockCall> SendUnmappedTensor(int to);
  absl::StatusOr<StockCall> SendWithRetries(int to, const std::string& payload);
  // Looks up the worker by its name, as PyTorch's users do it, and calls it.
  absl::StatusOr<StockCall> SendByName(const std::string& to,
                                       const std::string& payload);

  // The graceful end of a group: PyTorch's `join(shutdown=true, timeout)`. 0:
  // without a timeout.
  absl::Status Join(absl::Duration timeout);
  void Shutdown();

  // In a dynamic group: what members tell each other in calls.
  absl::Status AddMember(const StockMember& member);
  absl::Status RemoveMember(const StockMember& member);

  // The calls that it believes to be pending: its metric
  // "agent.client_active_calls".
  int64_t active_calls();
  // Deadlines that it watches.
  int64_t num_deadlines();
  int64_t num_devices();

 private:
  struct Impl;
  explicit StockAgent(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace reprise

#endif  // REPRISE_SIM_STOCK_STOCK_AGENT_H_

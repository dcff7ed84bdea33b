// A tensor-RPC agent: one member of a group of workers that call each other.
//
//   auto agent = Agent::Start({&RealRuntime(), store, &RealTransports()},
//                             options, handler, deadline);
//   Future reply = (*agent)->Send("w1", request);
//   ...
//   (*agent)->Join(deadline);      // until nobody has a call running
//   (*agent)->Shutdown(deadline);
//
// Every method may be called on any thread, and returns errors as statuses or
// through futures; nothing throws. Times are those of the runtime's clock.
//
// The life of a call: `Send` encodes it (agent/wire), enters it in the
// `CallTable`, and writes it to the peer's pipe (`PeerSet`), which is opened on
// first use. The peer's `Server` runs the handler on its worker pool and writes
// the reply to the same pipe. The reply, the timer, a failure or a cancellation
// completes the call, whichever takes it out of the table first.

#ifndef REPRISE_AGENT_AGENT_H_
#define REPRISE_AGENT_AGENT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/call_error.h"
#include "agent/call_options.h"
#include "agent/device/devices.h"
#include "agent/future.h"
#include "agent/message.h"
#include "agent/metrics/metric_family.h"
#include "agent/observer.h"
#include "agent/options.h"
#include "agent/request.h"
#include "agent/runtime/runtime.h"
#include "agent/store/store.h"
#include "agent/transport/transports.h"
#include "agent/worker_info.h"

namespace reprise {

// What an agent runs on: the four seams, and an observer. All must outlive the
// agent, and what `Shutdown` left behind.
struct Environment {
  Runtime* runtime = nullptr;
  std::shared_ptr<Store> store;
  TransportProvider* transports = nullptr;
  Observer* observer = nullptr;  // may be null
  // The GPUs (docs/devices.md). Null: tensors are on CPUs only.
  Devices* devices = nullptr;
};

// Counts of our calls to one peer.
struct NetworkData {
  int64_t calls = 0;  // started
  // Payloads and tensors of messages that were carried whole.
  int64_t sent_bytes = 0;
  int64_t received_bytes = 0;
  int64_t errors = 0;  // calls that failed, for whatever reason
  friend bool operator==(const NetworkData&, const NetworkData&) = default;
};

// Thread-safe. Not to be shut down or destroyed from a handler or a callback.
class Agent {
 public:
  // Meets the others in the store: publishes its name and address and returns
  // when all `world_size` members have done so. In a dynamic group
  // (docs/groups.md) it waits for nobody: it joins the members that are there.
  // DEADLINE_EXCEEDED names the missing members; ALREADY_EXISTS "... is not
  // unique ..."; FAILED_PRECONDITION for a group of another kind. Nothing is
  // left running after an error.
  static absl::StatusOr<std::unique_ptr<Agent>> Start(Environment environment,
                                                      AgentOptions options,
                                                      RequestHandler handler,
                                                      absl::Time deadline);

  // Shuts down, as `Shutdown` with a deadline that has passed. A function of
  // the user's that still runs then is left behind and must not use the agent.
  ~Agent();

  // Calls a worker. Blocks only with `WhenFull::kBlock`, and never on the
  // network or the store. Errors come by the future, also that of a bad
  // argument. A call that a handler makes on its own thread ends with the
  // request that the handler serves (docs/services.md).
  Future Send(WorkerId to, Message request, CallOptions options = {});
  Future Send(std::string_view to, Message request, CallOptions options = {});

  // Sends until the call succeeds, fails in a way that no retry mends, was
  // retried `max_retries` times, or the next attempt would begin after
  // `total_timeout`; each attempt has the timeout of `options`. `RetryMayHelp`
  // (agent/call_error.h) or `retry_if` says what is retried. An error of the
  // remote handler is retried only if `retry_if` says so. Nothing is retried
  // once the agent is being shut down. The handler may run more than once,
  // unless the call has an idempotency key.
  Future SendWithRetries(WorkerId to, Message request, CallOptions options = {},
                         RetryOptions retry = {});
  Future SendWithRetries(std::string_view to, Message request,
                         CallOptions options = {}, RetryOptions retry = {});

  // Sends and does not wait for an answer: the future is done, OK and empty,
  // when the request has been written to the connection, or with the error that
  // kept it from that. What happens afterwards is only counted: the request may
  // be lost with its connection or be refused by the peer, but it never arrives
  // twice. `options.timeout` bounds both. The peer still answers, with nothing
  // of importance; until it has, the call counts as running, so `Join` waits
  // for it.
  Future SendOneWay(WorkerId to, Message request, CallOptions options = {});
  Future SendOneWay(std::string_view to, Message request,
                    CallOptions options = {});

  // Tells the environment's observer, if there is one, what the service has to
  // say: a line of a log, or of the story of a simulated run.
  void Note(std::string_view text);

  // Begins to handle requests, after a start with `AgentOptions::start_paused`
  // or after `Drain`. Until then they wait, and count as running.
  void Serve();

  // Takes no new requests, which fail with an UNAVAILABLE that callers retry,
  // and returns when those that were taken have been answered and the answers
  // written. Calls of our own go on. DEADLINE_EXCEEDED says what was left; call
  // it again.
  absl::Status Drain(absl::Time deadline);

  // The group's barrier: returns when all members are in it and no call is
  // running anywhere. The agent goes on working. DEADLINE_EXCEEDED names the
  // members that did not come.
  absl::Status Join(absl::Time deadline);

  // As `Join`, and then no member is let out before all have seen that nothing
  // runs: after it, every member may shut down.
  absl::Status JoinForShutdown(absl::Time deadline);

  // Leaves a dynamic group: waits for its own calls, is then no member any
  // more, and goes on serving until the others have had time to learn of it and
  // no handler and no reply is left. `Shutdown` is to follow. DEADLINE_EXCEEDED
  // says what was left; call it again. `JoinForShutdown` is the same in a
  // dynamic group, and `Join` is refused there: it has no barrier.
  absl::Status Leave(absl::Time deadline);

  // Shuts this agent down; the others learn of it by their connections. It
  // refuses new calls, fails pending ones with CANCELLED, gives peers up to a
  // second to take the tensors that were sent, closes pipes and listener, and
  // waits for the functions of the user's that run: handlers, callbacks of
  // calls, `on_membership_change`, and accesses to the store.
  //
  // It returns by `deadline`, or within a second if `deadline` has passed
  // already, whatever these functions, the store and the peers do. After OK,
  // nothing of the user's runs or is called any more. DEADLINE_EXCEEDED says
  // which functions still run; no further one is called. They may go on using
  // the agent, which refuses everything, until it is destroyed. `Shutdown` may
  // be called again, to wait for them; and by several threads.
  absl::Status Shutdown(absl::Time deadline);

  const WorkerInfo& self() const;
  absl::StatusOr<WorkerInfo> GetWorkerInfo(std::string_view name) const;
  absl::StatusOr<WorkerInfo> GetWorkerInfo(WorkerId id) const;
  std::vector<WorkerInfo> GetWorkerInfos() const;  // by id

  // Returns once `name` is a member of the dynamic group; in a static one, at
  // once. DEADLINE_EXCEEDED when it does not come.
  absl::StatusOr<WorkerInfo> WaitForWorker(std::string_view name,
                                           absl::Time deadline);

  // Where our tensors arrive at `name` (AgentOptions::device_maps); empty when
  // nothing was said. NOT_FOUND when there is no such worker.
  absl::StatusOr<DeviceMap> GetDeviceMap(std::string_view name) const;
  // Where those of our replies to `name` arrive: the inverse of its own map.
  absl::StatusOr<DeviceMap> GetReverseDeviceMap(std::string_view name) const;
  // The GPUs whose streams handlers get: AgentOptions::devices, or, if that is
  // empty, all but CPUs in the maps from us and to us, in order.
  std::vector<Device> GetDevices() const;

  // Keys as PyTorch names them ("agent.client_active_calls"), and counts of
  // what is held: "agent.pending_calls", "agent.timers", "agent.pipes".
  // docs/observability.md lists them all.
  std::map<std::string, int64_t> GetMetrics() const;
  // The metrics as text, and "peer.w1.…": how things stand with each peer.
  std::map<std::string, std::string> GetDebugInfo() const;
  // By the names of peers that were ever called.
  std::map<std::string, NetworkData> GetNetworkData() const;

  // Everything that is counted, for an exporter; and as Prometheus' text
  // exposition format.
  std::vector<MetricFamily> GetMetricFamilies() const;
  std::string GetPrometheusText() const;

 private:
  class Impl;
  explicit Agent(std::shared_ptr<Impl> impl);
  // Functions that `Shutdown` left behind share it.
  const std::shared_ptr<Impl> impl_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_AGENT_H_

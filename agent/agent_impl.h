// The parts of an agent, and how they are started, wired and stopped.
//
// An `Impl` is shared: the functions of the user's that a shutdown leaves
// behind keep it alive, because the agent's code beneath them still uses its
// parts.

#ifndef REPRISE_AGENT_AGENT_IMPL_H_
#define REPRISE_AGENT_AGENT_IMPL_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/activity.h"
#include "agent/agent.h"
#include "agent/client/call_table.h"
#include "agent/client/peer_set.h"
#include "agent/client/reply_memory.h"
#include "agent/client/retry.h"
#include "agent/client/sent_keys.h"
#include "agent/device/caching_allocator.h"
#include "agent/device/device_map.h"
#include "agent/device/devices.h"
#include "agent/group/detached_store.h"
#include "agent/group/device_router.h"
#include "agent/group/dynamic_group.h"
#include "agent/group/membership.h"
#include "agent/group/quiescence_barrier.h"
#include "agent/group/static_group.h"
#include "agent/group/store_client.h"
#include "agent/group/worker_directory.h"
#include "agent/metrics/metrics.h"
#include "agent/pipe/gpu_poller.h"
#include "agent/python/membership_calls.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/thread_pool.h"
#include "agent/runtime/timer.h"
#include "agent/server/acceptor.h"
#include "agent/server/handler_gate.h"
#include "agent/server/server.h"
#include "tensorpipe/core/context.h"

namespace reprise {

// Thread-safe, as `Agent`.
class Agent::Impl {
 public:
  static absl::StatusOr<std::shared_ptr<Impl>> Start(Environment environment,
                                                     AgentOptions options,
                                                     RequestHandler handler,
                                                     absl::Time deadline);

  // What `Start` has made before.
  struct Parts {
    std::shared_ptr<DetachedStore> store_access;
    std::unique_ptr<StoreClient> store;
    std::vector<WorkerInfo> workers;  // empty in a dynamic group
    TransportSet transports;
    std::unique_ptr<tensorpipe::Context> context;
  };
  // Use `Start`, and `End` before the last reference goes.
  Impl(const Environment& environment, AgentOptions options,
       RequestHandler handler, Parts parts);

  // Shuts down with a deadline that has passed. Threads on which a function of
  // the user's still runs are left to themselves, and then share `impl`.
  static void End(const std::shared_ptr<Impl>& impl);

  // `to` is null when `called`, an id or a name, is that of no worker.
  template <typename Name>
  Future Send(const MemberPtr& to, const Name& called, Message request,
              const CallOptions& options) {
    if (to == nullptr) {
      workers_.MarkStale();
      return Refuse(NoSuchWorker(called), options);
    }
    return Send(to, std::move(request), options);
  }
  template <typename Name>
  Future SendWithRetries(const MemberPtr& to, const Name& called,
                         Message request, const CallOptions& options,
                         const RetryOptions& retry) {
    if (to == nullptr) {
      workers_.MarkStale();
      return Refuse(NoSuchWorker(called), options);
    }
    return SendWithRetries(to, std::move(request), options, retry);
  }
  template <typename Name>
  Future SendOneWay(const MemberPtr& to, const Name& called, Message request,
                    const CallOptions& options) {
    if (to == nullptr) {
      workers_.MarkStale();
      return Refuse(NoSuchWorker(called), options);
    }
    return SendOneWay(to, std::move(request), options);
  }
  absl::Status Join(bool stay_together, absl::Time deadline);
  absl::Status Drain(absl::Time deadline);
  void Serve() { gate_->Serve(); }
  void Note(std::string_view text) {
    if (observer_ != nullptr) observer_->OnNote(text);
  }
  absl::Status Leave(absl::Time deadline);
  absl::Status Shutdown(absl::Time deadline);

  const WorkerDirectory& workers() const { return workers_; }
  absl::Status NoSuchWorker(std::string_view name) const;
  absl::Status NoSuchWorker(WorkerId id) const;
  absl::StatusOr<WorkerInfo> WaitForWorker(std::string_view name,
                                           absl::Time deadline);
  absl::StatusOr<DeviceMap> GetDeviceMap(std::string_view name) const;
  absl::StatusOr<DeviceMap> GetReverseDeviceMap(std::string_view name) const;
  std::vector<Device> GetDevices() const;
  // agent_metrics.cc
  std::map<std::string, int64_t> GetMetrics();
  std::map<std::string, std::string> GetDebugInfo();
  std::map<std::string, NetworkData> GetNetworkData();
  std::vector<MetricFamily> GetMetricFamilies();

 private:
  enum class State { kRunning, kStopping, kStopped };
  // When a call starts and ends.
  struct Times {
    absl::Time start;
    absl::Time deadline;
    absl::Duration timeout;
  };

  absl::Status Open(absl::Time deadline);
  absl::Status EnterStaticGroup(absl::Time deadline);
  absl::Status Publish(std::string published, absl::Time deadline);
  absl::Status JoinDynamicGroup(absl::Time deadline);
  absl::Status LeaveDynamicGroup(absl::Time deadline);
  absl::Status NotFound(std::string_view called, bool has_left) const;
  absl::Status StartThreads();
  // Ends everything that needs nothing of the user's, by `until`.
  void Close(absl::Time until);
  // After `Close`: waits for the functions of the user's. DEADLINE_EXCEEDED
  // says which still run.
  absl::Status AwaitUsers(absl::Time until);
  // agent_stock.cc
  // Serves what PyTorch's workers ask of an agent itself, refuses what only
  // they can serve, and passes all else on to the user's handler.
  void Handle(Message request, const RequestInfo& info, Reply reply);
  absl::StatusOr<Message> ServeMembership(const MembershipCall& call,
                                          const RequestInfo& info);
  // As `DynamicGroup::Tell`.
  std::vector<WorkerInfo> TellStock(const DynamicGroup::StockNews& news,
                                    absl::Time deadline);
  static Message StockCall(const DynamicGroup::StockNews& news);
  // agent_calls.cc
  // `on_written` is called at most once, when the request has left; it must be
  // quick.
  Future Send(const MemberPtr& to, Message request, const CallOptions& options,
              std::function<void()> on_written = nullptr);
  Future SendOneWay(const MemberPtr& to, Message request,
                    const CallOptions& options);
  Future SendWithRetries(const MemberPtr& to, Message request,
                         const CallOptions& options, const RetryOptions& retry);
  // `request` is what an observer is shown. `first_id` is the id of the first
  // attempt; if there was none before, this one sets it.
  Future SendAttempt(const MemberPtr& to,
                     const std::shared_ptr<const EncodedMessage>& encoded,
                     const Message& request, const CallOptions& options,
                     const std::shared_ptr<ReplyMemory>& memory,
                     absl::Duration timeout, std::optional<int64_t>& first_id);
  // Enters the call and writes it.
  Future Dispatch(const MemberPtr& to, CallTable::Reservation call,
                  std::shared_ptr<const EncodedMessage> encoded,
                  const Message& request, const CallOptions& options,
                  std::shared_ptr<ReplyMemory> memory, const Times& times,
                  std::function<void()> on_written);
  // Of a call with these options, or why there can be none.
  absl::StatusOr<absl::Duration> CheckCall(const Message& request,
                                           const CallOptions& options) const;
  PeerSet::Options PeerOptions(uint64_t first_generation,
                               std::shared_ptr<PipeArrivals> arrivals);
  PeerSet& PeersOfGeneration(uint64_t generation);
  PeerSet& PeersFor(const EncodedMessage& message, Lane lane);
  // How the tensors of a call with these options go; points into both.
  Route RouteTo(const MemberPtr& to, const CallOptions& options) const;
  // When a call with these options ends at the latest: with the request that
  // the calling thread handles, too.
  absl::Time LatestEnd(const CallOptions& options) const;
  Times StartNow(absl::Duration timeout, absl::Time latest_end);
  // Of a status of `CallTable::Reserve`.
  absl::Status Explain(absl::Status status, MessageType type) const;
  Future Refuse(absl::Status status, const CallOptions& options);
  // Of a request that no retry mends.
  Future RefuseForGood(absl::Status status, const CallOptions& options);
  // Of a call whose deadline has passed.
  Future RefuseLate(const CallOptions& options);

  Runtime& runtime_;
  Observer* const observer_;
  const AgentOptions options_;
  const uint64_t instance_;  // tells this agent from others of its name
  WorkerDirectory workers_;
  // All accesses to the store go through these: those that a thread waits for,
  // and those that look up addresses.
  const std::shared_ptr<DetachedStore> store_access_;
  DetachedStore lookups_;
  const std::unique_ptr<StoreClient> store_;
  const std::shared_ptr<Activity> activity_;
  std::atomic<int> membership_waits_ = 0;  // see ServeMembership
  Metrics metrics_;
  Timer timer_;
  ThreadPool connector_;      // opens pipes; never blocks
  ThreadPool listener_pool_;  // opens the listener again, and publishes it
  ThreadPool worker_pool_;
  ThreadPool callback_pool_;
  std::unique_ptr<tensorpipe::Context> context_;
  const std::shared_ptr<CallTable> calls_;
  const std::shared_ptr<Retrier> retrier_;
  const std::shared_ptr<CpuAllocator> allocator_;
  Devices* const devices_;                       // may be null
  const std::shared_ptr<GpuPoller> gpu_poller_;  // null without GPUs
  const WireLimits limits_;
  DeviceRouter router_;
  SentKeys sent_keys_;
  PeerSet peers_;
  PeerSet bulk_peers_;  // the connections of large messages
  const std::shared_ptr<HandlerGate> gate_;
  const std::shared_ptr<Server> server_;
  Acceptor acceptor_;
  QuiescenceBarrier quiescence_barrier_;
  DynamicGroup group_;     // unused in a static group, as
  Membership membership_;  // this is

  Mutex mutex_;
  CondVar changed_;
  State state_ ABSL_GUARDED_BY(mutex_) = State::kRunning;
  bool leaving_ ABSL_GUARDED_BY(mutex_) = false;
};

// Runs tasks on `pool`, which must outlive it.
std::shared_ptr<Promise::Executor> ExecutorOf(ThreadPool& pool);

}  // namespace reprise

#endif  // REPRISE_AGENT_AGENT_IMPL_H_

#include "agent/agent_impl.h"

#include <algorithm>
#include <exception>
#include <functional>
#include <memory>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/group/liveness_check.h"
#include "agent/group/rendezvous.h"
#include "agent/planted.h"
#include "agent/wire/call_extras.h"
#include "glog/logging.h"

namespace reprise {
namespace {

// How long a shutdown waits for peers to take the tensors that were offered.
constexpr absl::Duration kTensorDrainTimeout = absl::Seconds(1);

// How long a shutdown may take if its deadline had passed before it began.
constexpr absl::Duration kShutdownGrace = absl::Seconds(1);

// Pipes for large messages are numbered from here on.
constexpr uint64_t kFirstBulkGeneration = uint64_t{1} << 48;

// Callbacks of futures may block. So many of them may block without delaying
// others.
constexpr int kCallbackThreads = 4;

// How many accesses to the store may hang before further ones have to wait.
constexpr int kStoreThreads = 4;
constexpr int kLookupThreads = 4;

absl::StatusOr<std::unique_ptr<tensorpipe::Context>> MakeContext(
    const std::string& name, const TransportSet& set) {
  try {
    auto context = std::make_unique<tensorpipe::Context>(
        tensorpipe::ContextOptions().name(name));
    for (const TransportEntry& transport : set.transports) {
      context->registerTransport(transport.priority, transport.name,
                                 transport.context);
    }
    for (const ChannelEntry& channel : set.channels) {
      context->registerChannel(channel.priority, channel.name, channel.context);
    }
    return context;
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat("TensorPipe refuses the transports: ", error.what()));
  }
}

WorkerDirectory MakeDirectory(Runtime& runtime, const AgentOptions& options,
                              std::vector<WorkerInfo> workers) {
  if (options.world_size == kDynamicGroup) {
    return WorkerDirectory(runtime, options.name);
  }
  return WorkerDirectory(runtime, std::move(workers),
                         static_cast<WorkerId>(options.id));
}

std::shared_ptr<CpuAllocator> AllocatorOf(Runtime& runtime,
                                          const AgentOptions& options) {
  if (options.allocator != nullptr) return options.allocator;
  if (options.max_cached_bytes == 0) return nullptr;
  return std::make_shared<CachingAllocator>(runtime, options.max_cached_bytes);
}

std::shared_ptr<GpuPoller> MakePoller(Runtime& runtime, Timer& timer,
                                      Devices* devices) {
  if (devices == nullptr || devices->gpu_memory() == nullptr) return nullptr;
  return std::make_shared<GpuPoller>(runtime, timer, *devices->gpu_memory());
}

std::shared_ptr<const std::function<void()>> KickOf(
    const std::shared_ptr<GpuPoller>& poller) {
  if (poller == nullptr) return nullptr;
  return std::make_shared<const std::function<void()>>(
      [poller] { poller->Kick(); });
}

}  // namespace

std::shared_ptr<Promise::Executor> ExecutorOf(ThreadPool& pool) {
  return std::make_shared<Promise::Executor>(
      [&pool](absl::AnyInvocable<void()> task) { pool.Run(std::move(task)); });
}

absl::StatusOr<std::shared_ptr<Agent::Impl>> Agent::Impl::Start(
    Environment environment, AgentOptions options, RequestHandler handler,
    absl::Time deadline) {
  Devices* const devices = environment.devices;
  if (devices != nullptr && options.device_count < 0) {
    options.device_count = devices->gpu_count();
  }
  if (absl::Status status = Validate(options); !status.ok()) return status;
  Runtime& runtime = *environment.runtime;
  Parts parts;
  parts.store_access = std::make_shared<DetachedStore>(
      runtime, environment.store, "store", kStoreThreads);
  parts.store = std::make_unique<StoreClient>(runtime, parts.store_access,
                                              options.store_timeout);
  // This comes before the others learn of us, so that nothing has to be taken
  // back if our own options are wrong.
  absl::StatusOr<TransportSet> transports =
      environment.transports->Make(options.transport, devices);
  if (!transports.ok()) return transports.status();
  absl::StatusOr<std::unique_ptr<tensorpipe::Context>> context =
      MakeContext(options.name, *transports);
  if (!context.ok()) return context.status();

  const bool is_static = options.world_size != kDynamicGroup;
  if (absl::Status status = AgreeOnKind(*parts.store, is_static, deadline);
      !status.ok()) {
    return status;
  }
  if (is_static) {
    absl::StatusOr<std::vector<WorkerInfo>> workers =
        ExchangeNames(runtime, *parts.store, options, deadline);
    if (!workers.ok()) return workers.status();
    parts.workers = *std::move(workers);
  }
  parts.transports = *std::move(transports);
  parts.context = *std::move(context);

  auto impl = std::make_shared<Impl>(environment, std::move(options),
                                     std::move(handler), std::move(parts));
  absl::Status status = impl->StartThreads();
  if (status.ok()) status = impl->Open(deadline);
  if (!status.ok()) {
    End(impl);
    return status;
  }
  return impl;
}

Agent::Impl::Impl(const Environment& environment, AgentOptions options,
                  RequestHandler handler, Parts parts)
    : runtime_(*environment.runtime),
      observer_(environment.observer),
      options_(std::move(options)),
      instance_(runtime_.RandomBits() | 1),
      workers_(MakeDirectory(runtime_, options_, std::move(parts.workers))),
      store_access_(std::move(parts.store_access)),
      lookups_(runtime_, environment.store, "lookup", kLookupThreads),
      store_(std::move(parts.store)),
      activity_(std::make_shared<Activity>(runtime_)),
      metrics_(runtime_),
      timer_(runtime_, "timer"),
      connector_(runtime_, "connector", 1),
      listener_pool_(runtime_, "listener", 1),
      worker_pool_(runtime_, "worker", options_.num_worker_threads),
      callback_pool_(runtime_, "callback", kCallbackThreads),
      context_(std::move(parts.context)),
      calls_(std::make_shared<CallTable>(
          runtime_, timer_, activity_,
          ExecutorOf(REPRISE_PLANTED(shared_pool) ? worker_pool_
                                                  : callback_pool_),
          observer_,
          CallTable::Limits{.max_calls = options_.max_pending_calls_per_peer,
                            .max_bytes = options_.max_pending_bytes_per_peer},
          [this](WorkerId to, uint64_t pipe_generation, int64_t id) {
            PeersOfGeneration(pipe_generation)
                .CancelCall(to, pipe_generation, id);
          })),
      retrier_(std::make_shared<Retrier>(runtime_, timer_,
                                         ExecutorOf(callback_pool_))),
      allocator_(AllocatorOf(runtime_, options_)),
      devices_(environment.devices),
      gpu_poller_(MakePoller(runtime_, timer_, devices_)),
      limits_{.max_payload_bytes = options_.max_payload_bytes,
              .max_tensor_bytes = options_.max_tensor_bytes,
              .allocator = allocator_.get(),
              .devices = devices_,
              .allowed_devices = options_.devices,
              .on_gpus_left = KickOf(gpu_poller_)},
      router_(runtime_, devices_, options_, workers_),
      sent_keys_(runtime_),
      peers_(runtime_, timer_, connector_, lookups_, *context_, workers_,
             *calls_, *activity_, metrics_, observer_,
             PeerOptions(/*first_generation=*/1, parts.transports.arrivals)),
      bulk_peers_(runtime_, timer_, connector_, lookups_, *context_, workers_,
                  *calls_, *activity_, metrics_, observer_,
                  PeerOptions(kFirstBulkGeneration, parts.transports.arrivals)),
      gate_(std::make_shared<HandlerGate>(
          runtime_, worker_pool_, activity_, metrics_, std::move(handler),
          HandlerGate::Options{workers_.self().name,
                               options_.num_worker_threads,
                               options_.start_paused})),
      server_(std::make_shared<Server>(
          runtime_, timer_, worker_pool_, activity_, metrics_, observer_,
          [this](Message request, const RequestInfo& info, Reply reply) {
            Handle(std::move(request), info, std::move(reply));
          },
          workers_,
          Server::Options{
              .connect_timeout = options_.connect_timeout,
              .limits = limits_,
              .idempotency = {.max_calls_per_caller =
                                  options_.max_idempotent_calls_per_caller,
                              .max_calls = options_.max_idempotent_calls,
                              .max_bytes_per_caller =
                                  options_.max_idempotent_bytes_per_caller,
                              .max_bytes = options_.max_idempotent_bytes,
                              .memory = options_.idempotency_memory,
                              .id = instance_},
              .arrivals = parts.transports.arrivals,
              .bounds = options_.server_bounds,
              .stock_workers_know_later_types =
                  options_.stock_workers_know_later_types,
              .instance = FormatInstance(instance_),
              .router = &router_})),
      acceptor_(
          runtime_, timer_, listener_pool_, *context_,
          parts.transports.transports, store_access_,
          AddressKey(workers_.self().name), options_.store_timeout, observer_,
          [server =
               server_.get()](const std::shared_ptr<tensorpipe::Pipe>& pipe) {
            server->AddPipe(pipe);
          }),
      quiescence_barrier_(runtime_, *store_, workers_, *activity_, observer_),
      group_(
          runtime_, *store_, options_, OwnFeatures(instance_),
          [this](const std::string& address, AskInstance ask,
                 absl::Time until) {
            return CheckLiveness(runtime_, *context_, address, ask, until);
          },
          [this](const DynamicGroup::StockNews& news, absl::Time until) {
            return TellStock(news, until);
          }),
      membership_(runtime_, group_, *store_, workers_, options_, observer_),
      mutex_(runtime_, "Agent"),
      changed_(runtime_, "Agent.changed") {
  if (workers_.is_dynamic()) {
    workers_.OnMarkedStale([this] { membership_.LookSoon(); });
  }
}

PeerSet::Options Agent::Impl::PeerOptions(
    uint64_t first_generation, std::shared_ptr<PipeArrivals> arrivals) {
  PeerSet::Options options{
      .connect_timeout = options_.connect_timeout,
      .store_timeout = options_.store_timeout,
      .max_unwritten_per_peer = options_.max_pending_calls_per_peer,
      .max_unwritten_bytes_per_peer = options_.max_pending_bytes_per_peer,
      .shortest_pause = options_.shortest_reconnect_pause,
      .longest_pause = options_.longest_reconnect_pause,
      .pipe = {.keepalive_interval = options_.keepalive_interval,
               .keepalive_bound = options_.keepalive_bound,
               .limits = limits_,
               .instance = instance_,
               .arrivals = std::move(arrivals),
               .stock_workers_know_later_types =
                   options_.stock_workers_know_later_types,
               .sent_keys = &sent_keys_},
      .first_generation = first_generation};
  if (options_.on_peer_change) {
    options.on_change = [this](const PeerChange& change) {
      callback_pool_.Run([this, change] {
        try {
          options_.on_peer_change(change);
        } catch (...) {
          LOG(ERROR) << "on_peer_change threw";
        }
      });
    };
  }
  return options;
}

PeerSet& Agent::Impl::PeersOfGeneration(uint64_t generation) {
  return generation < kFirstBulkGeneration ? peers_ : bulk_peers_;
}

PeerSet& Agent::Impl::PeersFor(const EncodedMessage& message, Lane lane) {
  const bool is_bulk =
      lane == Lane::kBulk ||
      (lane == Lane::kBySize && message.num_bytes() >= options_.bulk_bytes);
  return is_bulk ? bulk_peers_ : peers_;
}

void Agent::Impl::End(const std::shared_ptr<Impl>& impl) {
  const absl::Status status = impl->Shutdown(absl::InfinitePast());
  if (REPRISE_PLANTED(callback_after_shutdown)) {
    impl->worker_pool_.Stop();
    impl->callback_pool_.Stop();
    impl->membership_.StopCallbacks(absl::InfiniteFuture());
  }
  if (status.ok()) return;
  impl->worker_pool_.Abandon(impl);
  impl->callback_pool_.Abandon(impl);
  impl->membership_.AbandonCallbacks(impl);
}

absl::Status Agent::Impl::StartThreads() {
  absl::Status status = timer_.Start();
  for (ThreadPool* pool : {&connector_, &worker_pool_, &callback_pool_}) {
    if (status.ok()) status = pool->Start();
  }
  if (REPRISE_PLANTED(starts_without_threads)) return absl::OkStatus();
  return status;
}

absl::Status Agent::Impl::Open(absl::Time deadline) {
  if (absl::Status status = acceptor_.Listen(); !status.ok()) return status;
  return workers_.is_dynamic() ? JoinDynamicGroup(deadline)
                               : EnterStaticGroup(deadline);
}

absl::Status Agent::Impl::Join(bool stay_together, absl::Time deadline) {
  if (workers_.is_dynamic()) {
    if (stay_together) return Leave(deadline);
    return absl::FailedPreconditionError(
        "a dynamic group has no barrier to join: its members come and go. "
        "Call Leave to go.");
  }
  return quiescence_barrier_.Join(stay_together, deadline);
}

absl::Status Agent::Impl::Drain(absl::Time deadline) {
  if (!gate_->Drain(deadline)) {
    return absl::DeadlineExceededError(absl::StrCat(
        "drain: worker ", workers_.self().name, " has ",
        gate_->num_unanswered(), " requests that are not answered"));
  }
  if (!server_->WaitUntilWritten(deadline)) {
    return absl::DeadlineExceededError(
        absl::StrCat("drain: worker ", workers_.self().name,
                     " has replies that nobody takes"));
  }
  return absl::OkStatus();
}

absl::Status Agent::Impl::Shutdown(absl::Time deadline) {
  const absl::Time now = runtime_.Now();
  const absl::Time until = deadline > now ? deadline : now + kShutdownGrace;
  bool is_first = false;
  {
    MutexLock lock(mutex_);
    is_first = state_ == State::kRunning;
    if (is_first) state_ = State::kStopping;
    bool in_time = true;
    while (!is_first && state_ == State::kStopping && in_time) {
      in_time = changed_.WaitUntil(mutex_, until);
    }
    if (!is_first && state_ == State::kStopping) {
      return absl::DeadlineExceededError(
          absl::StrCat("agent ", workers_.self().name,
                       " is still being shut down by another thread"));
    }
  }
  if (!is_first) return AwaitUsers(until);
  Close(until);
  absl::Status status = AwaitUsers(until);
  if (observer_ != nullptr) observer_->OnShutdown();
  MutexLock lock(mutex_);
  state_ = State::kStopped;
  changed_.NotifyAll();
  return status;
}

void Agent::Impl::Close(absl::Time until) {
  VLOG(1) << "agent " << workers_.self().name << " shuts down";
  // What waits for a call, for the store or for a connection ends first, so
  // that the user's functions that wait for it have the most time to return.
  const absl::Status cancelled =
      WithCallError(absl::CancelledError(absl::StrCat(
                        "agent ", workers_.self().name, " was shut down")),
                    CallErrorSource::kCaller);
  retrier_->Close(cancelled);
  calls_->Close(cancelled);
  peers_.StopConnecting();
  bulk_peers_.StopConnecting();
  store_access_->Stop();
  lookups_.Stop();
  quiescence_barrier_.Stop();
  membership_.Stop();
  // No pipe and no listener is opened after these.
  connector_.Stop();
  listener_pool_.Stop();
  acceptor_.Close();
  server_->Refuse();
  gate_->Close();
  // Peers get some time to take the tensors of the last replies (channel cma),
  // because closing a connection takes them back. A peer that stands still is
  // waited for no longer than `kTensorDrainTimeout`.
  if (!activity_->WaitForNone(
          Activity::kOffer,
          std::min(until, runtime_.Now() + kTensorDrainTimeout))) {
    VLOG(1) << "agent " << workers_.self().name
            << " shuts down with tensors that were not taken";
  }
  peers_.Close();
  bulk_peers_.Close();
  server_->Close();
  context_->join();  // the last callback of TensorPipe's has returned
}

absl::Status Agent::Impl::AwaitUsers(absl::Time until) {
  if (REPRISE_PLANTED(shutdown_waits)) until = absl::InfiniteFuture();
  std::vector<std::string> left;
  // Handlers that have not begun are dropped, here or by their pools.
  activity_->WaitForNone(Activity::kHandler, until);
  if (REPRISE_PLANTED(callback_after_shutdown)) {
    timer_.Stop();
    return absl::OkStatus();
  }
  if (!worker_pool_.Stop(until)) {
    left.push_back(absl::StrCat(worker_pool_.num_busy_threads(), " handlers"));
  }
  const bool gives_grace = REPRISE_PLANTED(grace_is_enough);
  const absl::Time patience =
      gives_grace ? std::min(until, runtime_.Now() + absl::Milliseconds(20))
                  : until;
  // Another thread may be in the middle of a `Send`.
  activity_->WaitForNone(Activity::kCall, patience);
  if (!callback_pool_.Stop(patience) && !gives_grace) {
    left.push_back(
        absl::StrCat(callback_pool_.num_busy_threads(), " callbacks of calls"));
  }
  if (!membership_.StopCallbacks(until)) {
    left.push_back("on_membership_change");
  }
  const bool no_accesses = store_access_->AwaitAccesses(until);
  if (!lookups_.AwaitAccesses(until) || !no_accesses) {
    left.push_back(
        absl::StrCat(store_access_->num_running() + lookups_.num_running(),
                     " accesses to the store"));
  }
  if (gpu_poller_ != nullptr) gpu_poller_->Close();
  timer_.Stop();
  if (left.empty()) return absl::OkStatus();
  return absl::DeadlineExceededError(absl::StrCat(
      "agent ", workers_.self().name, ": ", absl::StrJoin(left, ", "),
      " were still running at the deadline of the shutdown"));
}

}  // namespace reprise

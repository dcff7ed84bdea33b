#include "agent/agent_impl.h"

#include <exception>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/strings/str_cat.h"
#include "agent/group/probe.h"
#include "agent/group/rendezvous.h"
#include "agent/planted.h"
#include "agent/wire/call_extras.h"
#include "glog/logging.h"

namespace reprise {
namespace {

// How long a shutdown waits for peers to take the tensors that were offered.
constexpr absl::Duration kTensorDrainTimeout = absl::Seconds(1);

// The numbers of pipes for large messages begin here.
constexpr uint64_t kFirstBulkGeneration = uint64_t{1} << 48;

// Callbacks of futures may block; a few of them at a time.
constexpr int kCallbackThreads = 4;

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

}  // namespace

std::shared_ptr<Promise::Executor> ExecutorOf(ThreadPool& pool) {
  return std::make_shared<Promise::Executor>(
      [&pool](absl::AnyInvocable<void()> task) { pool.Run(std::move(task)); });
}

absl::StatusOr<std::unique_ptr<Agent::Impl>> Agent::Impl::Start(
    Environment environment, AgentOptions options, RequestHandler handler,
    absl::Time deadline) {
  if (absl::Status status = Validate(options); !status.ok()) return status;
  Runtime& runtime = *environment.runtime;
  auto store = std::make_unique<StoreClient>(runtime, environment.store,
                                             options.store_timeout);
  // Before the others learn of us: nothing is to be taken back when our own
  // options are wrong.
  absl::StatusOr<TransportSet> transports =
      environment.transports->Make(options.transport);
  if (!transports.ok()) return transports.status();
  absl::StatusOr<std::unique_ptr<tensorpipe::Context>> context =
      MakeContext(options.name, *transports);
  if (!context.ok()) return context.status();

  const bool is_static = options.world_size != kDynamicGroup;
  if (absl::Status status = AgreeOnKind(*store, is_static, deadline);
      !status.ok()) {
    return status;
  }
  absl::StatusOr<std::vector<WorkerInfo>> workers = std::vector<WorkerInfo>();
  if (is_static) workers = ExchangeNames(runtime, *store, options, deadline);
  if (!workers.ok()) return workers.status();

  auto impl = std::make_unique<Impl>(
      environment, std::move(options), std::move(handler), std::move(store),
      *std::move(workers), *transports, *std::move(context));
  if (absl::Status status = impl->Open(deadline); !status.ok()) {
    impl->Shutdown(absl::InfinitePast()).IgnoreError();
    return status;
  }
  return impl;
}

Agent::Impl::Impl(const Environment& environment, AgentOptions options,
                  RequestHandler handler, std::unique_ptr<StoreClient> store,
                  std::vector<WorkerInfo> workers,
                  const TransportSet& transports,
                  std::unique_ptr<tensorpipe::Context> context)
    : runtime_(*environment.runtime),
      observer_(environment.observer),
      options_(std::move(options)),
      workers_(MakeDirectory(runtime_, options_, std::move(workers))),
      store_(std::move(store)),
      activity_(std::make_shared<Activity>(runtime_)),
      metrics_(runtime_),
      timer_(runtime_, "timer"),
      connector_(runtime_, "connector", 1),
      worker_pool_(runtime_, "worker", options_.num_worker_threads),
      callback_pool_(runtime_, "callback", kCallbackThreads),
      context_(std::move(context)),
      calls_(std::make_shared<CallTable>(
          runtime_, timer_, activity_,
          ExecutorOf(REPRISE_PLANTED(shared_pool) ? worker_pool_
                                                  : callback_pool_),
          worker_pool_, observer_,
          CallTable::Limits{options_.max_pending_calls_per_peer,
                            options_.max_pending_bytes_per_peer},
          [this](WorkerId to, uint64_t pipe_generation, int64_t id) {
            PeersOfGeneration(pipe_generation)
                .CancelCall(to, pipe_generation, id);
          })),
      retrier_(std::make_shared<Retrier>(runtime_, timer_,
                                         ExecutorOf(callback_pool_))),
      allocator_(AllocatorOf(runtime_, options_)),
      instance_(runtime_.RandomBits()),
      limits_{.max_payload_bytes = options_.max_payload_bytes,
              .max_tensor_bytes = options_.max_tensor_bytes,
              .allocator = allocator_.get()},
      peers_(runtime_, timer_, connector_, environment.store, *context_,
             workers_, *calls_, *activity_, metrics_, observer_,
             PeerOptions(/*first_generation=*/1)),
      bulk_peers_(runtime_, timer_, connector_, environment.store, *context_,
                  workers_, *calls_, *activity_, metrics_, observer_,
                  PeerOptions(kFirstBulkGeneration)),
      gate_(std::make_shared<HandlerGate>(
          runtime_, worker_pool_, activity_, metrics_, std::move(handler),
          HandlerGate::Options{workers_.self().name,
                               options_.num_worker_threads,
                               options_.start_paused})),
      server_(std::make_shared<Server>(
          runtime_, timer_, worker_pool_, activity_, metrics_, observer_,
          [gate = gate_](Message request, const RequestInfo& info,
                         Reply reply) {
            gate->Handle(std::move(request), info, std::move(reply));
          },
          workers_,
          Server::Options{
              options_.connect_timeout,
              limits_,
              {options_.max_idempotent_calls, options_.max_idempotent_bytes,
               options_.idempotency_memory}})),
      acceptor_(runtime_, timer_, connector_, *context_, transports.transports,
                environment.store, AddressKey(workers_.self().name),
                options_.store_timeout, observer_,
                [server = server_.get()](
                    const std::shared_ptr<tensorpipe::Pipe>& pipe) {
                  server->AddPipe(pipe);
                }),
      quiescence_barrier_(runtime_, *store_, workers_, *activity_, observer_),
      group_(runtime_, *store_, options_,
             [this](const std::string& address, absl::Time until) {
               return NobodyListensAt(runtime_, *context_, address, until);
             }),
      membership_(runtime_, group_, workers_, options_, observer_),
      mutex_(runtime_, "Agent"),
      changed_(runtime_, "Agent.changed") {
  if (workers_.is_dynamic()) {
    workers_.OnMarkedStale([this] { membership_.LookSoon(); });
  }
}

PeerSet::Options Agent::Impl::PeerOptions(uint64_t first_generation) {
  PeerSet::Options options{options_.connect_timeout,
                           options_.store_timeout,
                           options_.max_pending_calls_per_peer,
                           options_.max_pending_bytes_per_peer,
                           options_.shortest_reconnect_pause,
                           options_.longest_reconnect_pause,
                           {options_.keepalive_interval,
                            options_.keepalive_bound, limits_, instance_},
                           first_generation};
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

Agent::Impl::~Impl() {
  if (REPRISE_PLANTED(callback_after_shutdown)) {
    worker_pool_.Stop();
    callback_pool_.Stop();
  }
}

absl::Status Agent::Impl::Open(absl::Time deadline) {
  if (absl::Status status = acceptor_.Listen(); !status.ok()) return status;
  if (workers_.is_dynamic()) return JoinDynamicGroup(deadline);
  // Before the address, so that who finds the one finds the other.
  if (absl::Status status = store_->Set(FeaturesKey(workers_.self().name),
                                        std::string(OwnFeatures()), deadline);
      !status.ok()) {
    return status;
  }
  if (absl::Status status = Publish("", deadline); !status.ok()) return status;
  absl::StatusOr<std::vector<std::string>> addresses =
      ExchangeAddresses(runtime_, *store_, workers_, deadline);
  if (!addresses.ok()) return addresses.status();
  bulk_peers_.SetAddresses(*addresses);
  peers_.SetAddresses(*std::move(addresses));
  return absl::OkStatus();
}

absl::Status Agent::Impl::Publish(std::string published, absl::Time deadline) {
  // The listener may be replaced meanwhile, and its successor published before
  // this was.
  while (published != acceptor_.url()) {
    published = acceptor_.url();
    if (absl::Status status =
            store_->Set(AddressKey(workers_.self().name), published, deadline);
        !status.ok()) {
      return status;
    }
    acceptor_.Published(published);
  }
  return absl::OkStatus();
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
  {
    MutexLock lock(mutex_);
    if (state_ != State::kRunning) {
      while (state_ != State::kStopped) {
        changed_.WaitUntil(mutex_, absl::InfiniteFuture());
      }
      return stop_status_;
    }
    state_ = State::kStopping;
  }
  absl::Status status = Stop(deadline);
  MutexLock lock(mutex_);
  state_ = State::kStopped;
  stop_status_ = status;
  changed_.NotifyAll();
  return status;
}

absl::Status Agent::Impl::Stop(absl::Time deadline) {
  VLOG(1) << "agent " << workers_.self().name << " shuts down";
  quiescence_barrier_.Stop();
  membership_.Stop();
  const absl::Status cancelled =
      WithCallError(absl::CancelledError(absl::StrCat(
                        "agent ", workers_.self().name, " was shut down")),
                    CallErrorSource::kCaller);
  retrier_->Close(cancelled);
  calls_->Close(cancelled);
  // No pipe and no listener is opened after this.
  connector_.Stop();
  acceptor_.Close();
  server_->Refuse();
  gate_->Close();
  // What a peer is just copying must stay where it is: it would not notice, and
  // get whatever comes to lie there (channel cma). A peer that stands still is
  // not waited for.
  if (!activity_->WaitForNone(Activity::kOffer,
                              runtime_.Now() + kTensorDrainTimeout)) {
    VLOG(1) << "agent " << workers_.self().name
            << " shuts down with tensors that were not taken";
  }
  peers_.Close();
  bulk_peers_.Close();
  server_->Close();
  context_->join();  // the last callback of TensorPipe's has returned

  absl::Status status;
  if (!activity_->WaitForNone(Activity::kHandler, deadline)) {
    status = absl::DeadlineExceededError(absl::StrCat(
        "agent ", workers_.self().name, ": ",
        activity_->counts().running[Activity::kHandler],
        " handlers were still running at the deadline of the shutdown"));
  }
  if (!REPRISE_PLANTED(callback_after_shutdown)) {
    worker_pool_.Stop();
    activity_->WaitForNone(Activity::kCall, absl::InfiniteFuture());
    callback_pool_.Stop();
  }
  timer_.Stop();
  if (observer_ != nullptr) observer_->OnShutdown();
  return status;
}

}  // namespace reprise

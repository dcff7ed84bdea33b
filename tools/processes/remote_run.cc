#include "tools/processes/remote_run.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"
#include "agent/store/open_store.h"
#include "agent/transport/transports.h"
#include "sim/scenario/scratch_directory.h"
#include "tools/processes/clock_exchange.h"
#include "tools/processes/judge.h"
#include "tools/processes/real_worker.h"
#include "tools/processes/trace_exchange.h"
#include "tools/processes/worker_arguments.h"
#include "tools/processes/worker_gpus.h"

namespace reprise {
namespace {

// How long the traces may take after the bodies had to be over.
constexpr absl::Duration kCollectTime = absl::Seconds(30);

// What the body's thread uses. It outlives a run that has given up its body.
struct Body {
  explicit Body(const RemoteRunOptions& options) : options(options) {}

  const RemoteRunOptions options;
  std::mutex events_mutex;
  std::vector<Event> events;
  std::unique_ptr<RealTrace> trace;
  std::unique_ptr<WorkerGpus> gpus;  // null: tensors are on CPUs only
  std::shared_ptr<ScratchDirectory> files;
  std::unique_ptr<RealWorker> worker;

  Mutex mutex{RealRuntime(), "Body"};
  CondVar changed{RealRuntime(), "Body.changed"};
  bool done ABSL_GUARDED_BY(mutex) = false;
};

class Node {
 public:
  explicit Node(const RemoteRunOptions& options)
      : options_(options),
        identity_(options.identity),
        start_ns_(MonotonicNanoseconds()),
        deadline_(RealRuntime().Now() + options.max_wall_time),
        prefix_(absl::StrCat("reprise/traces/", options.identity.run_id)) {}

  absl::StatusOr<RemoteRun> Run() {
    if (absl::Status status = Prepare(); !status.ok()) return status;
    if (absl::Status status = AgreeOnTime(); !status.ok()) return status;
    RemoteRun run;
    WorkerTrace own;
    own.events = RunBody(run.hung);
    own.error_ns = clock_.error_ns;
    if (clock_.error_ns > 0) own.error_ns += Drift();
    run.clock_error_ns = own.error_ns;
    if (identity_.is_coordinator()) {
      Collect(std::move(own), run);
    } else if (absl::Status status = SendTrace(*store_, prefix_, identity_.rank,
                                               own, deadline_ + kCollectTime);
               status.ok()) {
      JudgeAlone(std::move(own.events), run.result);
    } else {
      JudgeAlone(std::move(own.events), run.result);
      FailIfHeld(
          "process",
          absl::StrCat("the trace could not be delivered: ", status.message()),
          run.result);
    }
    run.result.wall_seconds =
        static_cast<double>(MonotonicNanoseconds() - start_ns_) * 1e-9;
    if (!run.result.held() && !files_->empty()) {
      run.result.scratch_directory = std::move(*files_).Keep();
    }
    return run;
  }

 private:
  static void FailIfHeld(std::string rule, std::string detail,
                         RunResult& result) {
    if (!result.held()) return;
    result.rule = std::move(rule);
    result.detail = std::move(detail);
  }

  int64_t Drift() const {
    return (MonotonicNanoseconds() - start_ns_) / 1'000'000 * kDriftPerMillion;
  }

  int num_members() const {
    return identity_.world_size - options_.scenario->clients;
  }

  AgentOptions agent_options() const {
    return RealWorkerOptions(identity_.rank, num_members(), options_.transports,
                             options_.bind_address);
  }

  absl::Status Prepare() {
    // A transport that cannot work here is reported before anybody waits for
    // this worker.
    const auto transports = RealTransports().Make(agent_options().transport);
    if (!transports.ok()) return transports.status();
    // The same holds for a GPU.
    if (!options_.gpus.empty()) {
      auto gpus = WorkerGpus::Open(*options_.driver, options_.gpus);
      if (!gpus.ok()) return gpus.status();
      gpus_ = *std::move(gpus);
    }
    absl::StatusOr<ScratchDirectory> files = ScratchDirectory::Make();
    if (!files.ok()) return files.status();
    files_ = std::make_shared<ScratchDirectory>(*std::move(files));
    auto store = OpenStore(RealRuntime(), identity_.store_url);
    if (!store.ok()) return store.status();
    store_ = *std::move(store);
    const auto times = store_->Add(
        absl::StrCat(prefix_, "/started/", identity_.rank), 1, deadline_);
    if (!times.ok()) return times.status();
    if (*times == 1) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        "worker ", identity_.rank, " of run '", identity_.run_id,
        "' was started on this store before; give all workers of a new run "
        "another --run-id"));
  }

  absl::Status AgreeOnTime() {
    const std::string start_key = absl::StrCat(prefix_, "/start");
    if (identity_.is_coordinator()) {
      if (absl::Status status =
              store_->Set(start_key, absl::StrCat(start_ns_), deadline_);
          !status.ok()) {
        return status;
      }
      trace_start_ns_ = start_ns_;
      return AnswerClocks(*store_, prefix_, identity_.world_size, deadline_);
    }
    const auto clock = AskClock(*store_, prefix_, identity_.rank, deadline_);
    if (!clock.ok()) return clock.status();
    clock_ = *clock;
    const auto start = store_->Get(start_key, deadline_);
    if (!start.ok()) return start.status();
    int64_t coordinator_ns = 0;
    if (!absl::SimpleAtoi(*start, &coordinator_ns) || coordinator_ns < 0 ||
        coordinator_ns > int64_t{1} << 61) {
      return absl::InvalidArgumentError(
          "the store holds no time where the start of the run should be");
    }
    // The same moment, on this clock.
    trace_start_ns_ = coordinator_ns - clock_.offset_ns;
    return absl::OkStatus();
  }

  std::vector<Event> RunBody(bool& hung) {
    auto body = std::make_shared<Body>(options_);
    body->trace = std::make_unique<RealTrace>(
        identity_.rank, trace_start_ns_, [raw = body.get()](Event event) {
          std::lock_guard<std::mutex> lock(raw->events_mutex);
          raw->events.push_back(std::move(event));
        });
    body->gpus = std::move(gpus_);
    body->files = files_;
    body->worker = std::make_unique<RealWorker>(
        *body->options.scenario, agent_options(), /*incarnation=*/0,
        options_.seed, body->options.params,
        MakePrefixStore(store_,
                        absl::StrCat("reprise/groups/", identity_.run_id)),
        body->gpus == nullptr ? nullptr : &body->gpus->devices(),
        body->files->path(), *body->trace);
    std::unique_ptr<Thread> thread = RealRuntime().StartThread("body", [body] {
      body->worker->Run();
      MutexLock lock(body->mutex);
      body->done = true;
      body->changed.NotifyAll();
    });
    {
      MutexLock lock(body->mutex);
      while (!body->done && body->changed.WaitUntil(body->mutex, deadline_)) {
      }
      hung = !body->done;
    }
    if (hung) {
      body->worker->Check(
          false, "time-limit",
          absl::StrCat("not over after ",
                       absl::FormatDuration(options_.max_wall_time)));
      (void)thread.release();  // the end of the process ends it
    } else {
      thread->Join();
    }
    std::lock_guard<std::mutex> lock(body->events_mutex);
    return body->events;
  }

  void Collect(WorkerTrace own, RemoteRun& run) {
    std::vector<WorkerTrace> traces(1);
    traces[0] = std::move(own);
    std::string missing;
    for (int rank = 1; rank < identity_.world_size; ++rank) {
      auto trace =
          ReceiveTrace(*store_, prefix_, rank, deadline_ + kCollectTime);
      if (trace.ok()) {
        run.clock_error_ns = std::max(run.clock_error_ns, trace->error_ns);
        traces.push_back(*std::move(trace));
        continue;
      }
      traces.emplace_back();
      absl::StrAppend(&missing, missing.empty() ? "" : "; ", "no trace of w",
                      rank, ": ", trace.status().message());
    }
    std::vector<Event> events = MergeTraces(std::move(traces));
    if (!missing.empty()) {
      // A part of the traces would break every rule, so only the workers' own
      // checks count.
      JudgeAlone(std::move(events), run.result);
      FailIfHeld("process", missing, run.result);
      return;
    }
    ProcessRunEnd end;
    end.num_workers = identity_.world_size;
    end.num_clients = options_.scenario->clients;
    end.settle_time = absl::InfiniteDuration();
    JudgeInOrder(end, std::move(events), run.result);
  }

  const RemoteRunOptions& options_;
  const WorkerIdentity& identity_;
  const int64_t start_ns_;
  const absl::Time deadline_;
  const std::string prefix_;
  std::unique_ptr<WorkerGpus> gpus_;         // until the body takes them
  std::shared_ptr<ScratchDirectory> files_;  // shared with the body
  std::shared_ptr<Store> store_;
  ClockOffset clock_;
  int64_t trace_start_ns_ = 0;  // of MonotonicNanoseconds, here
};

}  // namespace

absl::StatusOr<RemoteRun> RunRemoteWorker(const RemoteRunOptions& options) {
  return Node(options).Run();
}

}  // namespace reprise

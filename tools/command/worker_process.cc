#include "tools/command/worker_process.h"

#include <errno.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/store/open_store.h"
#include "sim/trace.h"
#include "sim/trace_observer.h"
#include "tools/command/worker_arguments.h"

namespace reprise {
namespace {

// Writes events as they happen: a worker that is killed has said what it did.
// Thread-safe.
class TraceWriter {
 public:
  TraceWriter(int fd, int32_t node, int64_t start_ns)
      : fd_(fd), node_(node), start_ns_(start_ns) {}

  void Record(EventKind kind, uint64_t id, int64_t a, int64_t b, uint64_t c,
              std::string_view text) {
    // The time is read with the lock held: times ascend from line to line. And
    // a line that is too long for one write must not mix with another.
    std::lock_guard<std::mutex> lock(mutex_);
    const Event event{MonotonicNanoseconds() - start_ns_,
                      node_,
                      kind,
                      id,
                      a,
                      b,
                      c,
                      std::string(text)};
    Write(ToString(event) + "\n");
  }

 private:
  void Write(std::string_view line) {
    while (!line.empty()) {
      const ssize_t written = write(fd_, line.data(), line.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return;  // Nobody listens any more: we will be killed.
      line.remove_prefix(static_cast<size_t>(written));
    }
  }

  const int fd_;
  const int32_t node_;
  const int64_t start_ns_;
  std::mutex mutex_;
};

// What `RealRuntime().Now()` was at the start of the run, or a little less:
// then a deadline in the trace is never later than the one that was kept.
absl::Time StartOfRun(int64_t start_ns) {
  absl::Time best;
  int64_t best_error_ns = INT64_MAX;
  for (int i = 0; i < 16; ++i) {
    const int64_t before_ns = MonotonicNanoseconds();
    const absl::Time now = RealRuntime().Now();
    const int64_t error_ns = MonotonicNanoseconds() - before_ns;
    if (error_ns >= best_error_ns) continue;
    best_error_ns = error_ns;
    best = now - absl::Nanoseconds(before_ns - start_ns);
  }
  return best;
}

AgentOptions OptionsOf(const WorkerArguments& arguments) {
  AgentOptions options;
  options.name = absl::StrCat("w", arguments.rank);
  options.id = arguments.rank;
  options.world_size = arguments.world_size;
  // This one alone, so that every byte goes over it: beside a second one, a
  // connection would begin on the other, and a transport that does not work
  // here would quietly be done without.
  options.transport.transports = {arguments.transport};
  options.transport.bind_address = "127.0.0.1";
  return options;
}

class ProcessWorker : public Worker {
 public:
  ProcessWorker(const WorkerArguments& arguments, std::shared_ptr<Store> store,
                TraceWriter& trace)
      : Worker(OptionsOf(arguments), arguments.incarnation, arguments.seed,
               arguments.params),
        store_(std::move(store)),
        trace_(trace),
        observer_(
            [this](EventKind kind, uint64_t id, int64_t a, int64_t b,
                   uint64_t c, std::string_view text) {
              trace_.Record(kind, id, a, b, c, text);
            },
            [start = StartOfRun(arguments.start_ns)](absl::Time deadline) {
              // Saturates: never is the maximum.
              return absl::ToInt64Nanoseconds(deadline - start);
            }) {}

  Environment environment() override {
    return {&RealRuntime(), store_, &RealTransports(), &observer_};
  }
  void Note(std::string_view text) override {
    trace_.Record(EventKind::kNote, 0, 0, 0, 0, text);
  }
  bool Check(bool holds, std::string_view rule,
             std::string_view detail) override {
    if (holds) return true;
    trace_.Record(EventKind::kCheckFailed, 0, 0, 0, 0,
                  absl::StrCat(name(), ": ", std::string(rule), ": ",
                               std::string(detail)));
    return false;
  }
  void Reached(std::string_view probe) override {
    trace_.Record(EventKind::kProbe, 0, 0, 0, 0, probe);
  }

 private:
  const std::shared_ptr<Store> store_;
  TraceWriter& trace_;
  TraceObserver observer_;
};

int Refuse(std::string_view why) {
  std::fprintf(stderr, "reprise: %.*s\n", static_cast<int>(why.size()),
               why.data());
  return 2;
}

}  // namespace

int WorkerProcessMain(int argc, char** argv) {
  std::vector<std::string> words;
  for (int i = 2; i < argc; ++i) words.emplace_back(argv[i]);
  const auto arguments = ParseWorkerArguments(words);
  if (!arguments.ok()) return Refuse(arguments.status().ToString());
  const auto scenario = AllScenarios().find(arguments->scenario);
  if (scenario == AllScenarios().end()) {
    return Refuse(absl::StrCat("no scenario '", arguments->scenario, "'"));
  }
  auto store = OpenStore(RealRuntime(), arguments->store_url);
  if (!store.ok()) return Refuse(store.status().ToString());

  TraceWriter trace(arguments->trace_fd, arguments->rank, arguments->start_ns);
  ProcessWorker worker(*arguments, *std::move(store), trace);
  trace.Record(EventKind::kWorkerStarted, 0, arguments->incarnation, 0, 0, {});
  scenario->second.body(worker);
  trace.Record(EventKind::kWorkerEnded, 0, arguments->incarnation, 0, 0, {});
  return 0;
}

}  // namespace reprise

#include "sim/explore/explore.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/strings/str_format.h"
#include "fault_injection/fault_kind.h"
#include "sim/explore/shrink.h"
#include "sim/view/story.h"

namespace reprise {
namespace {

constexpr size_t kMaxFailures = 1000;

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The seeds, shared by the threads that run them.
class Exploration {
 public:
  explicit Exploration(const ExploreOptions& options) : options_(options) {
    for (const std::string& probe : options.run.scenario->probes) {
      result_.probes[probe] = 0;
    }
    for (const std::string& word : options.run.scenario->fault_kinds) {
      for (const FaultKind kind : FaultKindsNamed(word)) {
        result_.injections[std::string(ToString(kind))] = 0;
      }
    }
  }

  absl::StatusOr<ExploreResult> Run() {
    const Clock::time_point start = Clock::now();
    std::vector<std::thread> threads;
    const int jobs = std::max(1, options_.jobs);
    running_ = jobs;
    for (int i = 0; i < jobs; ++i) {
      threads.emplace_back([this] { Work(); });
    }
    WatchProgress(start);
    for (std::thread& thread : threads) thread.join();
    if (!error_.ok()) return error_;
    result_.wall_seconds = SecondsSince(start);
    std::sort(failed_seeds_.begin(), failed_seeds_.end());
    // Other threads may have gone on for a while after the first failure.
    if (!options_.keep_going && failed_seeds_.size() > 1) {
      failed_seeds_.resize(1);
    }
    for (uint64_t seed : failed_seeds_) Investigate(seed);
    Judge();
    return std::move(result_);
  }

 private:
  void Work() {
    SimRunOptions run = options_.run;
    for (;;) {
      const uint64_t index = next_.fetch_add(1);
      if (index >= options_.num_seeds || stop_.load()) break;
      if (index % options_.shards != options_.shard) continue;
      run.seed = options_.first_seed + index;
      absl::StatusOr<RunResult> result = RunSimulated(run);
      std::lock_guard lock(mutex_);
      if (!result.ok()) {
        error_ = result.status();
        stop_ = true;
        break;
      }
      Account(run.seed, *result);
    }
    std::lock_guard lock(mutex_);
    --running_;
    changed_.notify_all();
  }

  void Account(uint64_t seed, const RunResult& result) {
    ++result_.seeds;
    result_.sim_seconds += result.sim_seconds;
    result_.events += result.num_events;
    result_.decisions += result.num_decisions;
    for (const std::string& probe : result.probes) ++result_.probes[probe];
    for (const auto& [kind, times] : result.injections) {
      if (times > 0) ++result_.injections[kind];
    }
    if (result.held()) return;
    failed_seeds_.push_back(seed);
    failed_rules_[seed] = {result.rule, result.hash};
    if (!options_.keep_going || failed_seeds_.size() >= kMaxFailures) {
      stop_ = true;
    }
  }

  void WatchProgress(Clock::time_point start) {
    std::unique_lock lock(mutex_);
    while (running_ > 0) {
      changed_.wait_for(lock, std::chrono::seconds(1));
      if (running_ == 0 || !options_.progress || SecondsSince(start) < 2) {
        continue;
      }
      options_.progress(absl::StrFormat(
          "%d of %d seeds, %.0f/s, %d failed", result_.seeds,
          (options_.num_seeds + options_.shards - 1) / options_.shards,
          static_cast<double>(result_.seeds) / SecondsSince(start),
          failed_seeds_.size()));
    }
  }

  // Runs the seed again, keeping everything, and makes it small.
  void Investigate(uint64_t seed) {
    const auto& [rule, hash] = failed_rules_[seed];
    SimRunOptions run = options_.run;
    run.seed = seed;
    run.keep_trace = true;
    absl::StatusOr<RunResult> again = RunSimulated(run);
    ExploreFailure failure;
    if (!again.ok() || again->hash != hash || again->rule != rule) {
      failure.not_deterministic = true;
      failure.replay.rule = rule;
      failure.replay.detail = "the seed did not fail the same way again";
      failure.replay.hash = hash;
    }
    failure.replay.scenario = run.scenario->name;
    failure.replay.seed = seed;
    failure.replay.params = run.params;
    failure.replay.schedule = options_.schedule_name;
    failure.replay.plant = options_.plant;
    failure.replay.build = BuildId();
    if (!failure.not_deterministic) {
      const ShrinkResult shrunk =
          Shrink({.run = run,
                  .smallest = SizesOf(*run.scenario),
                  .max_seconds = options_.shrink_seconds,
                  .progress = options_.progress},
                 *again);
      failure.not_minimal = shrunk.stopped;
      failure.replay.params = shrunk.params;
      const RunResult& small = shrunk.run;
      failure.replay.faults = small.faults;
      failure.replay.rule = small.rule;
      failure.replay.detail = small.detail;
      failure.replay.hash = small.hash;
      failure.replay.decisions = small.decisions;
      failure.story =
          options_.whole_story ? TellEverything(small) : TellStory(small);
    }
    result_.failures.push_back(std::move(failure));
  }

  void Judge() {
    const Scenario& scenario = *options_.run.scenario;
    if (result_.seeds < scenario.enough_seeds) return;
    for (const std::string& probe : scenario.probes) {
      if (result_.probes[probe] == 0) {
        result_.unproved.push_back("coverage probe '" + probe +
                                   "' was never reached");
      }
    }
    for (const std::string& word : scenario.fault_kinds) {
      if (!Struck(word)) {
        result_.unproved.push_back("fault '" + word + "' never struck");
      }
    }
  }

  // An older word may mean several kinds: one of them is enough.
  bool Struck(std::string_view word) const {
    for (const FaultKind kind : FaultKindsNamed(word)) {
      const auto seeds = result_.injections.find(std::string(ToString(kind)));
      if (seeds != result_.injections.end() && seeds->second > 0) return true;
    }
    return false;
  }

  const ExploreOptions& options_;
  std::atomic<uint64_t> next_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  int running_ = 0;
  absl::Status error_;
  ExploreResult result_;
  std::vector<uint64_t> failed_seeds_;
  std::map<uint64_t, std::pair<std::string, uint64_t>> failed_rules_;
};

}  // namespace

absl::StatusOr<ExploreResult> Explore(const ExploreOptions& options) {
  return Exploration(options).Run();
}

}  // namespace reprise

#include "sim/explore/explore.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "fault_injection/fault_kind.h"
#include "sim/explore/isolated_run.h"
#include "sim/explore/seed_pool.h"
#include "sim/explore/shrink.h"
#include "sim/explore/signature.h"
#include "sim/view/story.h"

namespace reprise {
namespace {

constexpr size_t kMaxGroups = 1000;
constexpr size_t kMaxOtherSeeds = 1000;

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class Exploration {
 public:
  explicit Exploration(const ExploreOptions& options)
      : options_(options),
        num_seeds_((options.num_seeds + options.shards - 1 - options.shard) /
                   options.shards) {
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
    SeedPool pool(
        options_.run, num_seeds_,
        [this](uint64_t index) {
          return options_.first_seed + options_.shard + index * options_.shards;
        },
        options_.jobs);
    if (absl::Status status = RunSeeds(pool); !status.ok()) return status;
    result_.wall_seconds = SecondsSince(start_);
    Judge();
    return std::move(result_);
  }

 private:
  absl::Status RunSeeds(SeedPool& pool) {
    while (!pool.is_done() && !ShouldStop()) {
      absl::Status status = pool.Step();
      if (absl::IsCancelled(status)) {
        StopAs("interrupted");
        return absl::OkStatus();
      }
      if (!status.ok()) return status;
      while (std::optional<SeedResult> seed = pool.Next()) {
        status = Account(*seed);
        if (!status.ok() || is_over_) return status;
      }
      ShowProgress();
    }
    return absl::OkStatus();
  }

  bool ShouldStop() {
    if (WasInterrupted()) {
      StopAs("interrupted");
      return true;
    }
    const double seconds = SecondsSince(start_) - looking_seconds_;
    if (options_.max_seconds > 0 && seconds >= options_.max_seconds) {
      result_.stopped =
          absl::StrFormat("stopped after %g s, with %d of %d seeds run",
                          options_.max_seconds, result_.seeds, num_seeds_);
      return true;
    }
    return false;
  }

  bool WasInterrupted() const {
    return options_.interrupted && options_.interrupted();
  }

  void StopAs(std::string_view why) {
    result_.was_interrupted = true;
    result_.stopped =
        absl::StrFormat("%s, with %d of %d seeds run", std::string(why),
                        result_.seeds, num_seeds_);
  }

  absl::Status Account(const SeedResult& seed) {
    const RunResult& run = seed.run;
    ++result_.seeds;
    result_.sim_seconds += run.sim_seconds;
    result_.events += run.num_events;
    result_.decisions += run.num_decisions;
    for (const std::string& probe : run.probes) ++result_.probes[probe];
    for (const auto& [kind, times] : run.injections) {
      if (times > 0) ++result_.injections[kind];
    }
    if (run.held()) return absl::OkStatus();
    ++result_.failed_seeds;
    const std::string signature = SignatureOf(run.rule, run.detail);
    const auto [group, is_new] =
        groups_.emplace(signature, result_.failures.size());
    if (!is_new) {
      ExploreFailure& failure = result_.failures[group->second];
      ++failure.count;
      if (failure.other_seeds.size() < kMaxOtherSeeds) {
        failure.other_seeds.push_back(seed.seed);
      }
      return absl::OkStatus();
    }
    is_over_ =
        !options_.keep_going || result_.failures.size() + 1 >= kMaxGroups;
    const Clock::time_point begin = Clock::now();
    absl::Status status = LookInto(seed, signature);
    looking_seconds_ += SecondsSince(begin);
    return status;
  }

  void ShowProgress() {
    if (!options_.progress || SecondsSince(shown_) < 1 ||
        SecondsSince(start_) < 2) {
      return;
    }
    shown_ = Clock::now();
    options_.progress(absl::StrFormat(
        "%d of %d seeds, %.0f/s, %d failed", result_.seeds, num_seeds_,
        static_cast<double>(result_.seeds) / SecondsSince(start_),
        result_.failed_seeds));
  }

  SimRunOptions OptionsFor(const SeedResult& seed) const {
    SimRunOptions run = options_.run;
    run.seed = seed.seed;
    run.topology = TopologyOf(run);
    run.keep_trace = true;
    if (seed.run.rule == "hang") run.max_idle_seconds = kHangIdleSeconds;
    return run;
  }

  // Runs the seed again, keeping everything, and makes it small.
  absl::Status LookInto(const SeedResult& seed, const std::string& signature) {
    const SimRunOptions run = OptionsFor(seed);
    absl::StatusOr<RunResult> again = RunIsolated(run);
    ExploreFailure& failure = result_.failures.emplace_back();
    failure.signature = signature;
    failure.replay.scenario = run.scenario->name;
    failure.replay.seed = seed.seed;
    failure.replay.params = run.params;
    failure.replay.topology = *run.topology;
    failure.replay.schedule = options_.schedule_name;
    failure.replay.plant = options_.plant;
    failure.replay.build = BuildId();
    failure.replay.stack_kib = run.stack_bytes / 1024;
    failure.replay.runtime = run.runtime;
    // A hang is found at any moment of its loop, in which events may happen.
    const bool has_hash = seed.run.hash != 0 && seed.run.rule != "hang";
    const bool is_same = again.ok() && IsSameFailure(seed.run, *again) &&
                         (!has_hash || again->hash == seed.run.hash);
    if (!is_same) {
      failure.not_deterministic = true;
      failure.replay.rule = seed.run.rule;
      failure.replay.detail = WhyNotAgain(seed);
      failure.replay.hash = seed.run.hash;
      failure.story = {"violated: " + seed.run.rule, seed.run.detail};
      return Found(failure);
    }
    Take(*again, failure);
    // It is kept before anything else is tried.
    if (absl::Status status = Found(failure); !status.ok()) return status;
    if (WasInterrupted()) return absl::OkStatus();
    const ShrinkResult shrunk = Shrink({.run = run,
                                        .smallest = SizesOf(*run.scenario),
                                        .runner = Runner(),
                                        .max_seconds = options_.shrink_seconds,
                                        .progress = options_.progress},
                                       *again);
    failure.not_minimal = shrunk.stopped;
    failure.replay.params = shrunk.params;
    Take(shrunk.run, failure);
    return Found(failure);
  }

  // After an interrupt nothing fails any more, so the shrinking ends.
  std::function<absl::StatusOr<RunResult>(const SimRunOptions&)> Runner()
      const {
    return [this](const SimRunOptions& run) -> absl::StatusOr<RunResult> {
      if (WasInterrupted()) return absl::CancelledError("interrupted");
      return RunIsolated(run);
    };
  }

  void Take(const RunResult& run, ExploreFailure& failure) const {
    failure.replay.topology = run.topology;
    failure.replay.faults = run.faults;
    failure.replay.rule = run.rule;
    failure.replay.detail = run.detail;
    failure.replay.hash = run.hash;
    failure.replay.decisions = run.decisions;
    failure.story = options_.whole_story ? TellEverything(run) : TellStory(run);
    failure.stacks = run.stacks;
  }

  // The seed did not fail alone. Perhaps it does after those before it.
  std::string WhyNotAgain(const SeedResult& seed) const {
    std::string why = absl::StrCat(
        "the seed did not fail again; it failed by: ", seed.run.detail);
    if (seed.first_seed_of_process == seed.seed) return why;
    std::vector<uint64_t> before;
    for (uint64_t other = seed.first_seed_of_process; other != seed.seed;
         other += options_.shards) {
      before.push_back(other);
    }
    const absl::StatusOr<RunResult> again =
        RunIsolated(OptionsFor(seed), before);
    if (again.ok() && IsSameFailure(seed.run, *again)) {
      absl::StrAppend(&why, "; it fails when the seeds from ",
                      seed.first_seed_of_process,
                      " on run before it in the same process, so a static "
                      "keeps something from run to run");
    }
    return why;
  }

  absl::Status Found(const ExploreFailure& failure) const {
    return options_.found ? options_.found(failure) : absl::OkStatus();
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
  const uint64_t num_seeds_;
  const Clock::time_point start_ = Clock::now();
  Clock::time_point shown_ = Clock::now();
  double looking_seconds_ = 0;            // spent on failures
  bool is_over_ = false;                  // a failure has ended it
  std::map<std::string, size_t> groups_;  // signatures; index into failures
  ExploreResult result_;
};

}  // namespace

absl::StatusOr<ExploreResult> Explore(const ExploreOptions& options) {
  return Exploration(options).Run();
}

}  // namespace reprise

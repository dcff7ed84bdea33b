#include "sim/explore/shrink.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <optional>
#include <unordered_set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "sim/explore/signature.h"
#include "sim/explore/simpler_fault.h"
#include "sim/random.h"

namespace reprise {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kSecond = 1'000'000'000;
// Pairs and stalls are tried where there are at most so many decisions.
constexpr size_t kFewDecisions = 50;
// A livelock is recognised by so many points while it is made smaller; the last
// run has the bound of the world again.
constexpr int64_t kLivelockPoints[] = {1'000'000, 8'000'000, 0};

// What can be made smaller.
struct Case {
  std::vector<std::string> topology;
  std::vector<std::string> faults;
  std::vector<Decision> decisions;
  ScenarioParams params;
  bool drawn = false;  // the decisions are drawn, and not those above
};

uint64_t FingerprintOf(const Case& what) {
  uint64_t hash = what.drawn ? 1 : 0;
  // A line of a topology never reads like a fault.
  for (const std::string& line : what.topology) {
    hash = HashCombine(hash, HashBytes(line));
  }
  for (const std::string& fault : what.faults) {
    hash = HashCombine(hash, HashBytes(fault));
  }
  for (const auto& [name, value] : what.params) {
    hash = HashCombine(hash, HashBytes(name) + static_cast<uint64_t>(value));
  }
  if (what.drawn) return hash;
  for (const Decision& decision : what.decisions) {
    hash = HashCombine(hash, HashBytes(decision.site) + decision.count);
    hash = HashCombine(hash,
                       decision.value + static_cast<uint64_t>(decision.kind));
  }
  return hash;
}

template <typename T>
std::vector<T> Without(const std::vector<T>& all, size_t begin, size_t end) {
  std::vector<T> rest(all.begin(),
                      all.begin() + static_cast<std::ptrdiff_t>(begin));
  rest.insert(rest.end(), all.begin() + static_cast<std::ptrdiff_t>(end),
              all.end());
  return rest;
}

class Shrinker {
 public:
  Shrinker(const ShrinkOptions& options, const RunResult& failed)
      : options_(options), failed_(failed) {}

  ShrinkResult Run() {
    for (const int64_t points : kLivelockPoints) {
      const bool is_livelock = failed_.rule == "progress";
      if (!is_livelock && points != 0) continue;
      max_points_ = is_livelock ? points : 2 * failed_.num_points + 10'000;
      Start();
      while (MadeSmaller()) {
      }
      // The last run may take its time: without it there is nothing to show.
      if (std::optional<RunResult> last = RunLast()) {
        return Result(*std::move(last));
      }
      if (IsOutOfTime()) break;
    }
    best_ = original_;
    minimal_.reset();
    if (stopped_.empty()) {
      stopped_ = "not made smaller: the recorded decisions alone do not fail";
    }
    return Result(failed_);
  }

 private:
  void Start() {
    known_.clear();
    minimal_.reset();
    original_ = {.topology = failed_.topology,
                 .faults = failed_.faults,
                 .decisions = failed_.decisions,
                 .params = options_.run.params};
    best_ = original_;
    end_ns_ = static_cast<int64_t>(failed_.sim_seconds * kSecond);
  }

  // One pass over everything. Returns whether anything became smaller.
  bool MadeSmaller() {
    const uint64_t before = FingerprintOf(best_);
    DropFaultsAndDecisions();
    LowerSizes();
    DropFaultsAndDecisions();
    if (!IsOutOfTime()) minimal_ = FingerprintOf(best_);
    if (best_.decisions.size() <= kFewDecisions) {
      if (DropPairs()) DropFaultsAndDecisions();
      SimplifyFaults();
      ShortenStalls();
    }
    return FingerprintOf(best_) != before && !IsOutOfTime();
  }

  // Whether this is known not to fail, or is found not to. If it fails, it is
  // the best from now on.
  bool Try(Case candidate) {
    if (IsOutOfTime() || !known_.insert(FingerprintOf(candidate)).second) {
      return false;
    }
    ReportProgress();
    absl::StatusOr<RunResult> result = Execute(candidate, /*last=*/false);
    if (!result.ok() || !IsSame(*result)) return false;
    candidate.decisions = std::move(result->decisions);
    candidate.drawn = false;
    best_ = std::move(candidate);
    end_ns_ = static_cast<int64_t>(result->sim_seconds * kSecond);
    return true;
  }

  absl::StatusOr<RunResult> Execute(const Case& what, bool last) {
    ++runs_;
    SimRunOptions run = options_.run;
    run.recording = what.drawn ? nullptr : &what.decisions;
    run.topology = what.topology;
    run.faults = what.faults;
    run.params = what.params;
    // Decisions that are drawn are in the result only if they are kept.
    run.keep_trace = last || what.drawn;
    if (!last) {
      run.max_points = max_points_;
      if (failed_.rule != "time-limit") {
        run.max_time_ns = static_cast<int64_t>(
            2 * failed_.sim_seconds * kSecond + 10 * kSecond);
      }
    }
    return options_.runner(run);
  }

  std::optional<RunResult> RunLast() {
    absl::StatusOr<RunResult> result = Execute(best_, /*last=*/true);
    if (!result.ok() || !IsSame(*result)) return std::nullopt;
    return *std::move(result);
  }

  bool IsSame(const RunResult& result) const {
    return options_.is_same ? options_.is_same(result)
                            : IsSameFailure(failed_, result);
  }

  void DropFaultsAndDecisions() {
    // Most failures need no decision, and many no fault.
    Case none = best_;
    none.decisions.clear();
    Try(none);
    for (size_t chunk = best_.faults.size(); chunk > 0; chunk /= 2) {
      DropChunks(&Case::faults, chunk);
    }
    for (size_t chunk = best_.topology.size(); chunk > 0; chunk /= 2) {
      DropChunks(&Case::topology, chunk);
    }
    // What was needed at first may be superfluous after another success, so the
    // passes go on until one takes nothing away.
    for (size_t before = SIZE_MAX; best_.decisions.size() < before;) {
      before = best_.decisions.size();
      for (size_t chunk = before; chunk > 0; chunk /= 2) {
        DropChunks(&Case::decisions, chunk);
      }
    }
  }

  // From the end to the beginning: what comes late disturbs nothing earlier.
  template <typename T>
  void DropChunks(std::vector<T> Case::*part, size_t chunk) {
    size_t end = (best_.*part).size();
    while (end > 0) {
      const size_t begin = end > chunk ? end - chunk : 0;
      Case candidate = best_;
      candidate.*part = Without(best_.*part, begin, end);
      // More than the chunk may be gone, as what is not reached is left out.
      end = Try(std::move(candidate)) ? std::min(begin, (best_.*part).size())
                                      : begin;
    }
  }

  bool DropPairs() {
    bool any = false;
    for (size_t second = best_.decisions.size(); second-- > 1;) {
      for (size_t first = second; first-- > 0;) {
        if (second >= best_.decisions.size()) break;
        Case candidate = best_;
        candidate.decisions = Without(
            Without(best_.decisions, second, second + 1), first, first + 1);
        any |= Try(std::move(candidate));
      }
    }
    return any;
  }

  // Sizes towards their smallest that still fails, by halving the step.
  void LowerSizes() {
    for (const auto& [name, smallest] : options_.smallest) {
      const auto found = best_.params.find(name);
      if (found == best_.params.end()) continue;
      const auto lower_to = [this, &name = name](int64_t value) {
        Case candidate = best_;
        candidate.params.find(name)->second = value;
        return TrySize(std::move(candidate));
      };
      if (found->second > smallest && lower_to(smallest)) continue;
      int64_t step = (best_.params.find(name)->second - smallest) / 2;
      while (step > 0) {
        const int64_t value = best_.params.find(name)->second;
        if (value - step < smallest || !lower_to(value - step)) step /= 2;
      }
    }
  }

  // With another size the decisions may fall at other places, so they are drawn
  // again if it does not fail with those that there are.
  bool TrySize(Case candidate) {
    if (Try(candidate)) return true;
    if (options_.run.recording != nullptr || best_.decisions.empty()) {
      return false;
    }
    candidate.drawn = true;
    return Try(std::move(candidate));
  }

  void SimplifyFaults() {
    for (size_t i = 0; i < best_.faults.size(); ++i) {
      constexpr int kMaxSteps = 40;
      for (int step = 0; step < kMaxSteps; ++step) {
        const std::vector<std::string> simpler =
            SimplerFaults(best_.faults[i], end_ns_);
        if (!std::any_of(simpler.begin(), simpler.end(),
                         [&](const std::string& line) {
                           Case candidate = best_;
                           candidate.faults[i] = line;
                           return Try(std::move(candidate));
                         })) {
          break;
        }
      }
    }
  }

  void ShortenStalls() {
    constexpr uint64_t kMicrosecond = 1000;
    for (size_t i = 0; i < best_.decisions.size(); ++i) {
      while (i < best_.decisions.size() &&
             best_.decisions[i].kind == DecisionKind::kStall &&
             best_.decisions[i].value >= 2 * kMicrosecond) {
        Case candidate = best_;
        candidate.decisions[i].value /= 2 * kMicrosecond;
        candidate.decisions[i].value *= kMicrosecond;
        if (!Try(std::move(candidate))) break;
      }
    }
  }

  bool IsOutOfTime() {
    if (Seconds() <= options_.max_seconds) return false;
    if (stopped_.empty()) {
      stopped_ = absl::StrFormat("stopped after %g s, not minimal",
                                 options_.max_seconds);
    }
    return true;
  }

  double Seconds() const {
    return std::chrono::duration<double>(Clock::now() - start_).count();
  }

  void ReportProgress() {
    if (!options_.progress ||
        Clock::now() - last_report_ < std::chrono::seconds(1)) {
      return;
    }
    last_report_ = Clock::now();
    options_.progress(absl::StrFormat(
        "making the failure smaller: %d of %d faults and %d of %d decisions "
        "are left after %d runs and %.0f s",
        best_.faults.size(), failed_.faults.size(), best_.decisions.size(),
        failed_.decisions.size(), runs_, Seconds()));
  }

  ShrinkResult Result(RunResult run) {
    ShrinkResult result;
    result.params = best_.params;
    result.runs = runs_;
    result.seconds = Seconds();
    // What is only simplified further may run out of time.
    result.minimal = stopped_.empty() || FingerprintOf(best_) == minimal_;
    if (!result.minimal) result.stopped = stopped_;
    Compare(result);
    result.run = std::move(run);
    result.run.faults = best_.faults;
    result.run.topology = best_.topology;
    return result;
  }

  void Compare(ShrinkResult& result) const {
    for (const auto& [name, value] : best_.params) {
      const int64_t before = original_.params.find(name)->second;
      if (value == before) continue;
      result.changes.push_back(
          absl::StrCat("param ", name, ": ", before, " to ", value));
    }
    const auto has = [](const std::vector<std::string>& faults,
                        const std::string& line) {
      return std::find(faults.begin(), faults.end(), line) != faults.end();
    };
    for (const std::string& line : original_.topology) {
      if (!has(best_.topology, line)) {
        result.changes.push_back("gone: topology " + line);
      }
    }
    for (const std::string& line : original_.faults) {
      if (!has(best_.faults, line)) {
        result.changes.push_back("gone: fault " + line);
      }
    }
    for (const std::string& line : best_.faults) {
      if (!has(original_.faults, line)) {
        result.changes.push_back("simpler: fault " + line);
      }
    }
    if (best_.decisions.size() != original_.decisions.size()) {
      result.changes.push_back(
          absl::StrCat("decisions: ", original_.decisions.size(), " to ",
                       best_.decisions.size()));
    }
  }

  const ShrinkOptions& options_;
  const RunResult& failed_;
  const Clock::time_point start_ = Clock::now();
  Clock::time_point last_report_ = Clock::now();
  int64_t max_points_ = 0;
  int64_t runs_ = 0;
  int64_t end_ns_ = 0;  // when the best run failed
  std::string stopped_;
  std::optional<uint64_t> minimal_;  // the fingerprint of what is known to be
  Case original_;
  Case best_;
  std::unordered_set<uint64_t> known_;  // the fingerprints of what was tried
};

}  // namespace

ScenarioParams SizesOf(const Scenario& scenario) {
  ScenarioParams sizes = scenario.smallest;
  if (scenario.worker_range) {
    sizes[std::string(kWorkersParam)] = scenario.worker_range->min;
  }
  return sizes;
}

ShrinkResult Shrink(const ShrinkOptions& options, const RunResult& failed) {
  return Shrinker(options, failed).Run();
}

}  // namespace reprise

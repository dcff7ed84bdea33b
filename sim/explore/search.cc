#include "sim/explore/search.h"

#include <algorithm>
#include <chrono>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "sim/explore/isolated_run.h"
#include "sim/explore/recording_variants.h"
#include "sim/random.h"

namespace reprise {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kProgressSeconds = 2;

// One variant to run: a recording, or a schedule that is drawn.
struct Variant {
  std::string kind;
  std::string how;
  SimRunOptions run;
  std::optional<std::vector<Decision>> decisions;
};

class Searcher {
 public:
  Searcher(const SearchOptions& options, const RunResult& plain)
      : options_(options),
        plain_(plain),
        recorded_(RecordingVariants(options.decisions, plain)) {}

  absl::StatusOr<SearchResult> Run() {
    // Each source in turn, as long as it has any left.
    for (int turn = 0; Continues(); ++turn) {
      std::optional<Variant> variant = Next(turn);
      if (!variant) continue;
      if (absl::Status status = Try(*std::move(variant)); !status.ok()) {
        return status;
      }
    }
    result_.seconds = Seconds();
    return std::move(result_);
  }

 private:
  double Seconds() const {
    return std::chrono::duration<double>(Clock::now() - start_).count();
  }

  bool Continues() const {
    return !result_.same && result_.variants < options_.max_variants &&
           Seconds() < options_.max_seconds;
  }

  std::optional<Variant> Next(int turn) {
    switch (turn % 4) {
      case 0:
        return NextRecorded();
      case 1:
        return NextCombined();
      case 2:
        return NextSchedule();
      default:
        return NextSeed();
    }
  }

  std::optional<Variant> NextRecorded() {
    if (next_recorded_ >= recorded_.size()) return std::nullopt;
    RecordingVariant& next = recorded_[next_recorded_++];
    return Variant{next.kind, next.how, options_.run,
                   std::move(next.decisions)};
  }

  std::optional<Variant> NextCombined() {
    if (options_.decisions.empty()) return std::nullopt;
    const uint64_t number = next_combined_++;
    return Variant{"combined",
                   absl::StrCat("decisions shifted and dropped at random, no. ",
                                number + 1),
                   options_.run, CombinedVariant(options_.decisions, number)};
  }

  // Schedules that differ in what they favour.
  void DrawSchedule(uint64_t number, SimRunOptions& run) {
    ScheduleOptions& schedule = run.schedule;
    schedule.policy = number % 3 == 2 ? Policy::kPct : Policy::kRandom;
    if (number % 3 == 1) schedule.switch_probability = 0.1;
    schedule.stall_probability = number % 2 == 0 ? 0.02 : 0.1;
    schedule.pct_length = std::max<int64_t>(1, plain_.num_points);
    schedule.salt = number;
  }

  std::optional<Variant> NextSchedule() {
    const uint64_t number = ++next_schedule_;
    Variant variant{"schedules", absl::StrCat("another schedule, no. ", number),
                    options_.run, std::nullopt};
    DrawSchedule(number, variant.run);
    return variant;
  }

  std::optional<Variant> NextSeed() {
    const uint64_t number = ++next_seed_;
    Variant variant{"seeds", "", options_.run, std::nullopt};
    variant.run.seed += (number + 1) / 2;
    DrawSchedule((number - 1) / 2, variant.run);
    variant.run.schedule.salt = 0;
    const bool draws_faults = number % 2 == 0;
    if (draws_faults) {
      variant.run.faults = std::nullopt;
      if (options_.run.scenario->draw_topology) {
        variant.run.topology = std::nullopt;
      }
    }
    variant.how = absl::StrCat(
        "seed ", variant.run.seed, " with ",
        draws_faults ? "the faults that it draws" : "the recorded faults");
    return variant;
  }

  absl::Status Try(Variant variant) {
    SimRunOptions run = variant.run;
    run.recording = variant.decisions ? &*variant.decisions : nullptr;
    run.keep_trace = true;
    absl::StatusOr<RunResult> ran = RunIsolated(run);
    if (!ran.ok()) return ran.status();
    ++result_.variants;
    ++result_.tried[variant.kind];
    if (!ran->held()) {
      const bool is_same = options_.rule.empty() || ran->rule == options_.rule;
      std::optional<SearchFinding>& slot =
          is_same ? result_.same : result_.other;
      if (!slot) slot = {std::move(variant.how), run.seed, *std::move(ran)};
    }
    if (options_.progress && Seconds() >= next_progress_) {
      next_progress_ = Seconds() + kProgressSeconds;
      options_.progress(absl::StrFormat("searching: %d variants in %.0f s (%s)",
                                        result_.variants, Seconds(),
                                        Describe(result_.tried)));
    }
    return absl::OkStatus();
  }

  static std::string Describe(const std::map<std::string, int64_t>& tried) {
    return absl::StrJoin(tried, ", ", [](std::string* out, const auto& entry) {
      absl::StrAppend(out, entry.second, " ", entry.first);
    });
  }

  const SearchOptions& options_;
  const RunResult& plain_;
  const Clock::time_point start_ = Clock::now();
  std::vector<RecordingVariant> recorded_;
  size_t next_recorded_ = 0;
  uint64_t next_combined_ = 0;
  uint64_t next_schedule_ = 0;
  uint64_t next_seed_ = 0;
  double next_progress_ = kProgressSeconds;
  SearchResult result_;
};

}  // namespace

absl::StatusOr<SearchResult> Search(const SearchOptions& options,
                                    const RunResult& plain) {
  return Searcher(options, plain).Run();
}

}  // namespace reprise

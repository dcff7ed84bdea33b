#include "tools/command/sweep.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tools/command/numbers.h"

namespace reprise {
namespace {

// A flag that has several values.
struct Axis {
  std::string name;  // "steps"; empty for the schedule, which needs none
  std::vector<std::string> values;
};

absl::Status TooMany() {
  return absl::InvalidArgumentError(absl::StrCat(
      "the lists of values mean more than ", kMaxVariants, " explorations"));
}

absl::StatusOr<std::vector<std::string>> ParseValues(const std::string& flag,
                                                     const std::string& text) {
  std::vector<std::string> values;
  const std::vector<std::string> pieces = absl::StrSplit(text, ',');
  for (const std::string& piece : pieces) {
    const size_t dots = piece.find("..");
    int64_t first = 0;
    if (!ParseNumber(piece.substr(0, dots), first)) {
      return absl::InvalidArgumentError(absl::StrCat(
          flag, ": '", text, "' is neither an integer nor 5..10 nor 1,2,4"));
    }
    int64_t last = first;
    if (dots != std::string::npos) {
      if (!ParseNumber(piece.substr(dots + 2), last) || last < first) {
        return absl::InvalidArgumentError(
            absl::StrCat(flag, ": '", piece, "' is not a range such as 5..10"));
      }
    }
    if (static_cast<uint64_t>(last) - static_cast<uint64_t>(first) >=
        kMaxVariants) {
      return TooMany();
    }
    for (int64_t i = 0; i <= last - first; ++i) {
      values.push_back(absl::StrCat(first + i));
    }
  }
  return values;
}

std::vector<std::string> ParseSchedules(const std::string& text) {
  if (text == "all") return {"cooperative", "random", "pct"};
  return absl::StrSplit(text, ',');
}

absl::StatusOr<std::vector<Axis>> FindAxes(const RunFlags& run) {
  std::vector<Axis> axes = {{"", ParseSchedules(run.schedule)}};
  const auto add = [&axes](const std::string& flag, std::string name,
                           const std::string& text) {
    auto values = ParseValues(flag, text);
    if (values.ok()) axes.push_back({std::move(name), *std::move(values)});
    return values.status();
  };
  for (const std::string& pair : run.params) {
    const size_t equals = pair.find('=');
    if (equals == std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("--param ", pair, ": it must be name=value"));
    }
    if (absl::Status status =
            add(absl::StrCat("--param ", pair), pair.substr(0, equals),
                pair.substr(equals + 1));
        !status.ok()) {
      return status;
    }
  }
  if (!run.workers.empty()) {
    if (absl::Status status = add(absl::StrCat("--workers ", run.workers),
                                  std::string(kWorkersParam), run.workers);
        !status.ok()) {
      return status;
    }
  }
  return axes;
}

}  // namespace

absl::StatusOr<std::vector<Variant>> ExpandSweep(const RunFlags& run) {
  const absl::StatusOr<const Scenario*> scenario = FindScenario(run.scenario);
  if (!scenario.ok()) return scenario.status();
  const absl::StatusOr<std::vector<Axis>> axes = FindAxes(run);
  if (!axes.ok()) return axes.status();
  size_t total = 1;
  for (const Axis& axis : *axes) {
    total *= axis.values.size();
    if (total > kMaxVariants) return TooMany();
  }
  std::vector<Variant> variants(total);
  for (size_t i = 0; i < total; ++i) {
    Variant& variant = variants[i];
    variant.run = run;
    variant.run.params.clear();
    variant.run.workers.clear();
    std::vector<std::string> name;
    size_t rest = i;
    size_t below = total;
    for (const Axis& axis : *axes) {
      below /= axis.values.size();
      const std::string& value = axis.values[rest / below];
      rest %= below;
      const std::string text =
          axis.name.empty() ? value : absl::StrCat(axis.name, "=", value);
      if (axis.values.size() > 1) name.push_back(text);
      if (axis.name.empty()) {
        variant.run.schedule = value;
      } else if (axis.name == kWorkersParam && !run.workers.empty()) {
        variant.run.workers = value;
      } else {
        variant.run.params.push_back(text);
      }
    }
    variant.name = absl::StrJoin(name, " ");
    if (absl::Status status = variant.run.Check(); !status.ok()) return status;
  }
  return variants;
}

}  // namespace reprise

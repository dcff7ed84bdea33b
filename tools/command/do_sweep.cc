// `reprise explore`: one exploration, or several with a table of their results.

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "tools/command/report.h"
#include "tools/command/subcommands.h"
#include "tools/command/sweep.h"

namespace reprise {
namespace {

int ExploreOne(const CommonFlags& common, const ExploreCommand& command,
               Json* report) {
  return command.on == "sim" ? DoExplore(common, command, report)
                             : DoExploreInProcesses(common, command, report);
}

// The exit code of several: what a user must look at first.
int Worse(int x, int y) {
  constexpr int kByUrgency[] = {kHeld, kInconclusive, kViolated,
                                kNotDeterministic, kUsage};
  const auto urgency = [&](int code) {
    return std::find(std::begin(kByUrgency), std::end(kByUrgency), code);
  };
  return urgency(x) < urgency(y) ? y : x;
}

// The first failure of an exploration: "deadlock (seed 17)".
std::string FirstFailure(const Json& report) {
  const auto failures = report.find("failures");
  if (failures == report.end() || failures->empty()) return "";
  const Json& first = failures->front();
  return absl::StrCat("  ", first.value("rule", std::string("?")), " (seed ",
                      first.contains("seed") ? first["seed"].dump() : "?", ")");
}

void PrintTable(const std::vector<Variant>& variants, const Json& reports) {
  size_t width = 0;
  for (const Variant& variant : variants) {
    width = std::max(width, variant.name.size());
  }
  for (size_t i = 0; i < reports.size(); ++i) {
    const Json& report = reports[i];
    PrintLine(absl::StrFormat(
        "%-*s  %8d seeds  %-12s%s", static_cast<int>(width), variants[i].name,
        report.value("seeds", int64_t{0}),
        report.value("outcome", std::string("?")), FirstFailure(report)));
  }
}

}  // namespace

int DoSweep(const CommonFlags& common, const ExploreCommand& command) {
  const absl::StatusOr<std::vector<Variant>> variants =
      ExpandSweep(command.run);
  if (!variants.ok()) return UsageError(variants.status(), common.json);
  if (variants->size() == 1) {
    ExploreCommand one = command;
    one.run = variants->front().run;
    return ExploreOne(common, one, nullptr);
  }
  int code = kHeld;
  Json reports = Json::array();
  for (const Variant& variant : *variants) {
    ExploreCommand one = command;
    one.run = variant.run;
    // The same seed may fail in several of them.
    one.out =
        absl::StrCat(command.out.empty() ? DefaultOutDirectory() : command.out,
                     "/", absl::StrReplaceAll(variant.name, {{" ", ","}}));
    if (!common.json) PrintLine(absl::StrCat("--- ", variant.name));
    Json report;
    const int its_code = ExploreOne(common, one, &report);
    // The error has been printed.
    if (its_code == kUsage) return kUsage;
    code = Worse(code, its_code);
    report["variant"] = variant.name;
    reports.push_back(std::move(report));
  }
  if (common.json) {
    PrintJson(Json{{"scenario", command.run.scenario},
                   {"outcome", code == kHeld           ? "held"
                               : code == kInconclusive ? "inconclusive"
                               : code == kViolated     ? "violated"
                                                       : "not deterministic"},
                   {"variants", reports}});
  } else {
    PrintTable(*variants, reports);
  }
  return code;
}

}  // namespace reprise

#include "sim/scenario/scenario.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace reprise {
namespace {

// Filled before `main` only.
std::map<std::string, Scenario, std::less<>>& Registry() {
  static auto* const registry =
      new std::map<std::string, Scenario, std::less<>>();
  return *registry;
}

}  // namespace

int64_t Worker::param(std::string_view name) const {
  auto it = params_.find(name);
  if (it == params_.end()) {
    std::fprintf(stderr,
                 "reprise: a scenario reads a parameter '%.*s' that it "
                 "does not declare\n",
                 static_cast<int>(name.size()), name.data());
    std::abort();
  }
  return it->second;
}

int NumWorkers(const Scenario& scenario, const ScenarioParams& params) {
  const auto it = params.find(kWorkersParam);
  return scenario.worker_range && it != params.end()
             ? static_cast<int>(it->second)
             : scenario.workers;
}

ParamRange RangeOf(const Scenario& scenario, std::string_view param) {
  if (scenario.worker_range && param == kWorkersParam) {
    return *scenario.worker_range;
  }
  const auto it = scenario.param_ranges.find(param);
  if (it != scenario.param_ranges.end()) return it->second;
  const auto value = scenario.params.find(param);
  const bool may_be_negative =
      value != scenario.params.end() && value->second < 0;
  return {.min = may_be_negative ? INT64_MIN : 0};
}

absl::Status CheckParams(const Scenario& scenario,
                         const ScenarioParams& params) {
  for (const auto& [name, value] : params) {
    if (!scenario.params.contains(name)) {
      std::string known;
      for (const auto& [other, its_default] : scenario.params) {
        known += (known.empty() ? "" : ", ") + other + "=" +
                 std::to_string(its_default);
      }
      return absl::InvalidArgumentError(
          "no parameter '" + name + "': " + scenario.name + " has " +
          (known.empty() ? "no parameters" : "only " + known));
    }
    const ParamRange range = RangeOf(scenario, name);
    if (value >= range.min && value <= range.max) continue;
    return absl::InvalidArgumentError(
        name + "=" + std::to_string(value) + ": " + scenario.name +
        " takes values " +
        (range.max == INT64_MAX ? "of " + std::to_string(range.min) + " or more"
                                : "from " + std::to_string(range.min) + " to " +
                                      std::to_string(range.max)));
  }
  return absl::OkStatus();
}

const std::map<std::string, Scenario, std::less<>>& AllScenarios() {
  return Registry();
}

ScenarioRegistration::ScenarioRegistration(std::string name,
                                           Scenario scenario) {
  scenario.name = name;
  if (scenario.worker_range) {
    scenario.params.emplace(kWorkersParam, scenario.workers);
  }
  if (!Registry().emplace(name, std::move(scenario)).second) {
    std::fprintf(stderr, "reprise: two scenarios are named '%s'\n",
                 name.c_str());
    std::abort();
  }
}

}  // namespace reprise

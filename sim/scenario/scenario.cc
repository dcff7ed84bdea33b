#include "sim/scenario/scenario.h"

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

const std::map<std::string, Scenario, std::less<>>& AllScenarios() {
  return Registry();
}

ScenarioRegistration::ScenarioRegistration(std::string name,
                                           Scenario scenario) {
  scenario.name = name;
  if (!Registry().emplace(name, std::move(scenario)).second) {
    std::fprintf(stderr, "reprise: two scenarios are named '%s'\n",
                 name.c_str());
    std::abort();
  }
}

}  // namespace reprise

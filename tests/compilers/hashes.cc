// Prints "SCENARIO SCHEDULE SEED HASH" for a few seeds of every scenario that
// is linked in. Two builds of it must print the same.
//
// usage: hashes [SEEDS [SCENARIO...]]

#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>

#include "absl/strings/str_format.h"
#include "glog/logging.h"
#include "sim/explore/sim_run.h"
#include "sim/scenario/scenario.h"

namespace reprise {
namespace {

constexpr uint64_t kDefaultSeeds = 5;

// Returns whether the seeds could be run.
bool PrintHashes(const Scenario& scenario, Policy policy,
                 std::string_view schedule, uint64_t seeds) {
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    SimRunOptions options;
    options.scenario = &scenario;
    options.params = scenario.params;
    options.schedule.policy = policy;
    options.seed = seed;
    const absl::StatusOr<RunResult> result = RunSimulated(options);
    if (!result.ok()) {
      absl::FPrintF(stderr, "%s: %s\n", scenario.name,
                    result.status().ToString());
      return false;
    }
    absl::PrintF("%s %s %d %016x\n", scenario.name, std::string(schedule), seed,
                 result->hash);
    std::fflush(stdout);
  }
  return true;
}

int Main(int argc, char** argv) {
  const uint64_t seeds =
      argc > 1 ? std::strtoull(argv[1], nullptr, 10) : kDefaultSeeds;
  FLAGS_minloglevel = google::GLOG_FATAL;
  std::set<std::string> wanted;
  for (int i = 2; i < argc; ++i) wanted.insert(argv[i]);
  for (const auto& [name, scenario] : AllScenarios()) {
    if (!wanted.empty() && !wanted.contains(name)) continue;
    if (!PrintHashes(scenario, Policy::kRandom, "random", seeds) ||
        !PrintHashes(scenario, Policy::kPct, "pct", 1)) {
      return 2;
    }
  }
  return 0;
}

}  // namespace
}  // namespace reprise

int main(int argc, char** argv) { return reprise::Main(argc, argv); }

// Dynamic groups: members come, go, die and come back.

#include <utility>

#include "sim/scenario/scenario.h"
#include "tests/scenarios/group_life.h"
#include "tests/scenarios/swarm.h"

namespace reprise::scenarios {
namespace {

// Adds to `own` the parameters that the scenarios have in common, unless `own`
// has them.
ScenarioParams Params(ScenarioParams own) {
  own.merge(ScenarioParams{{"graceful", 0},
                           {"renames", 0},
                           {"maps", 0},
                           {"refresh_ms", 500},
                           {"keepalive_s", 0},  // 0: the default
                           {"near", 0},         // 0: calls go to any member
                           {"reach", 4}});
  return own;
}

REPRISE_SCENARIO(
    dynamic_join,
    {.description = "workers join a dynamic group, some at once, some die",
     .workers = 4,
     .params = Params({{"active_ms", 18000},
                       {"lives", 1},
                       {"life_ms", 1000},
                       {"pause_ms", 1000},
                       {"maps", 1},
                       {"send_ms", 3000}}),
     .body = LiveInAGroup,
     .faults = DrawGroupFaults,
     .probes = {"agreed", "came back", "could not join",
                "waited for one in vain"},
     .fault_kinds = {"crash", "kill", "power", "pause", "hold", "swizzle",
                     "store-outage", "store-delay", "store-slow-keys",
                     "store-lost-reply", "store-late-effect"},
     .enough_seeds = 200,
     .max_time = absl::Minutes(5),
     .settle_time = absl::Minutes(3)});

REPRISE_SCENARIO(
    dynamic_leave,
    {.description = "workers leave a dynamic group, some at once, some die",
     .workers = 4,
     .params = Params({{"active_ms", 18000},
                       {"lives", 3},
                       {"life_ms", 3000},
                       {"pause_ms", 500},
                       {"maps", 1},
                       {"send_ms", 3000}}),
     .body = LiveInAGroup,
     .faults = DrawGroupFaults,
     .probes = {"agreed", "came back", "joined again", "left", "left too late",
                "went without leaving", "called one that was not there"},
     .fault_kinds = {"crash", "kill", "power", "pause", "cut", "hold",
                     "swizzle", "store-outage", "store-delay",
                     "store-slow-keys", "store-lost-reply",
                     "store-late-effect"},
     .enough_seeds = 200,
     .max_time = absl::Minutes(5),
     .settle_time = absl::Minutes(3)});

REPRISE_SCENARIO(
    rejoin,
    {.description = "workers come back, under their names or other ones",
     .workers = 4,
     .params = Params({{"active_ms", 18000},
                       {"lives", 5},
                       {"life_ms", 1500},
                       {"pause_ms", 500},
                       {"renames", 1},
                       {"send_ms", 3000}}),
     .body = LiveInAGroup,
     .faults = DrawGroupFaults,
     .probes = {"agreed", "came back", "joined again", "went without leaving"},
     .fault_kinds = {"crash", "kill", "power", "pause", "cut", "refuse", "hold",
                     "swizzle", "store-outage", "store-delay",
                     "store-slow-keys", "store-lost-reply",
                     "store-late-effect"},
     .enough_seeds = 200,
     .max_time = absl::Minutes(5),
     .settle_time = absl::Minutes(3)});

REPRISE_SCENARIO(graceful_leave,
                 {.description = "who leaves in good order cuts nobody off",
                  .workers = 4,
                  .params = Params({{"active_ms", 12000},
                                    {"lives", 4},
                                    {"life_ms", 2000},
                                    {"pause_ms", 100},
                                    {"graceful", 1},
                                    {"maps", 1},
                                    {"send_ms", 5}}),
                  .body = LiveInAGroup,
                  .probes = {"agreed", "joined again", "left",
                             "called one that was not there",
                             "was refused for its maps"},
                  .enough_seeds = 100,
                  .max_time = absl::Minutes(5),
                  .settle_time = absl::Minutes(3),
                  .process_params = {{"active_ms", 4000}, {"send_ms", 3000}}});

REPRISE_SCENARIO(
    slow_store,
    {.description = "the store is slow, or away, and calls do not wait for it",
     .workers = 4,
     .params = Params({{"active_ms", 18000},
                       {"lives", 3},
                       {"life_ms", 3000},
                       {"pause_ms", 100},
                       {"maps", 1},
                       {"send_ms", 5}}),
     .body = LiveInAGroup,
     .faults = DrawStoreFaults,
     .probes = {"agreed", "joined again", "left"},
     .fault_kinds = {"store-outage", "store-delay", "store-slow-keys",
                     "store-lost-reply", "store-late-effect"},
     .enough_seeds = 200,
     .max_time = absl::Minutes(5),
     .settle_time = absl::Minutes(3)});

REPRISE_SCENARIO(
    swarm_groups,
    {.description = "members come and go amid many faults of many kinds",
     .workers = 4,
     .params = Params({{"storm_ms", 12000},
                       {"active_ms", 18000},
                       {"lives", 3},
                       {"life_ms", 3000},
                       {"pause_ms", 300},
                       {"renames", 1},
                       {"send_ms", 6000}}),
     .body = LiveInAGroup,
     .faults =
         [](Draws random, const ScenarioParams& params) {
           return DrawSwarm(std::move(random), params, 4, /*clocks=*/false);
         },
     .probes = {"agreed", "came back", "joined again", "left"},
     .fault_kinds = {"crash", "kill", "power", "pause", "slow", "no-memory",
                     "cut", "refuse", "hold", "delay", "swizzle",
                     "drop-connect", "store-outage", "store-delay",
                     "store-slow-keys", "store-lost-reply"},
     .enough_seeds = 200,
     .max_time = absl::Minutes(5),
     .settle_time = absl::Minutes(3)});

// In most runs a few of them die, and most of those come back.
std::vector<std::string> SomeDie(Draws random, const ScenarioParams& params) {
  std::vector<std::string> lines;
  const int64_t active_ms = params.find("active_ms")->second;
  for (int64_t left = random.Between("crashes", 0, 6); left > 0; --left) {
    const std::string victim =
        "w" + std::to_string(random.Between("victim", 1, 49));
    std::string line =
        "crash " + victim + " after " +
        std::to_string(random.Between("crash at", 1, active_ms)) + "ms";
    if (!random.OneIn("stays away", 4)) {
      line += " restart " +
              std::to_string(random.Between("restart", 1, 60000)) + "ms";
    }
    lines.push_back(line);
  }
  if (random.OneIn("outage", 2)) {
    lines.push_back(
        "store-outage all after " +
        std::to_string(random.Between("outage at", 1, active_ms)) + "ms for " +
        std::to_string(random.Between("outage length", 1, 5000)) + "ms");
  }
  return lines;
}

REPRISE_SCENARIO(
    churn, {.description = "fifty workers come and go for an hour, under calls",
            .workers = 50,
            .params = Params({{"active_ms", 3600000},
                              {"lives", 6},
                              {"life_ms", 900000},
                              {"pause_ms", 120000},
                              {"refresh_ms", 60000},
                              {"keepalive_s", 300},
                              {"near", 2},
                              {"reach", 4},
                              {"send_ms", 5}}),
            .body = LiveInAGroup,
            .faults = SomeDie,
            .probes = {"agreed", "came back", "joined again", "left",
                       "went without leaving", "called one that was not there"},
            .fault_kinds = {"crash", "store-outage"},
            .enough_seeds = 50,
            .max_time = absl::Hours(2),
            .settle_time = absl::Hours(2)});

}  // namespace
}  // namespace reprise::scenarios

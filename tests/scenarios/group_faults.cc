// The plans of the scenarios of groups.

#include <cstdint>

#include "tests/scenarios/faults.h"
#include "tests/scenarios/group_life.h"

namespace reprise::scenarios {

std::vector<std::string> DrawStoreFaults(Draws random,
                                         const ScenarioParams& /*params*/) {
  std::vector<std::string> lines;
  for (int64_t left = random.Between("faults", 1, 3); left > 0; --left) {
    std::string line =
        "store-delay " + std::to_string(random.Between("delay", 1, 50)) + "ms";
    if (random.OneIn("outage", 2)) {
      line = "store-outage " +
             (random.OneIn("of all", 2)
                  ? "all"
                  : "w" + std::to_string(random.Below("worker", 4)));
    }
    lines.push_back(line + " after " +
                    std::to_string(random.Between("at", 1, 12000)) + "ms for " +
                    std::to_string(random.Between("length", 100, 3000)) + "ms");
  }
  AddStoreDoubts(random.Part("doubts"), StoreDoubts::kLateEffects, 4, 12000,
                 lines);
  return lines;
}

std::vector<std::string> DrawGroupFaults(Draws random,
                                         const ScenarioParams& params) {
  std::vector<std::string> lines;
  if (!random.OneIn("none of any group", 3))
    lines = DrawFaults(random.Part("of any group"), params);
  if (lines.empty() || random.OneIn("crash", 2)) {
    const std::string victim = "w" + std::to_string(random.Below("victim", 4));
    std::string line = std::string(DrawDeath(random, "death")) + victim +
                       " when " + victim + " store#" +
                       std::to_string(random.Between("count", 1, 40));
    if (!random.OneIn("stays away", 4)) {
      line += " restart " + std::to_string(random.Between("restart", 1, 1500)) +
              "ms";
    }
    lines.push_back(line);
  }
  // Some faults come at any time, and last long enough to be felt.
  const std::string when_and_how_long =
      " after " + std::to_string(random.Between("at", 1, 12000)) + "ms for " +
      std::to_string(random.Between("length", 100, 3000)) + "ms";
  const int64_t a = random.Between("first", 0, 3);
  const std::string first = "w" + std::to_string(a);
  const std::string second =
      "w" + std::to_string((a + random.Between("second", 1, 3)) % 4);
  switch (random.Below("kind", 6)) {
    case 0:
      lines.push_back("store-outage " +
                      (random.OneIn("of all", 2) ? "all" : first) +
                      when_and_how_long);
      break;
    case 1:
      lines.push_back("hold " + first +
                      (random.OneIn("one way", 3) ? ">" : "-") + second +
                      when_and_how_long);
      break;
    case 2:
      lines.push_back("refuse " + first + when_and_how_long);
      break;
    case 3:
      lines.push_back("cut " + first + "-" + second + " after " +
                      std::to_string(random.Between("cut at", 1, 12000)) +
                      "ms reset");
      break;
    case 4:
      if (random.OneIn("swizzle", 2)) {
        lines.push_back("swizzle " + first + when_and_how_long);
      }
      break;
    default:
      break;
  }
  AddStoreDoubts(random.Part("doubts"), StoreDoubts::kLateEffects, 4, 12000,
                 lines);
  return lines;
}

}  // namespace reprise::scenarios

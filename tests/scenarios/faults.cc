#include "tests/scenarios/faults.h"

#include <array>
#include <cstdint>
#include <string_view>

namespace reprise::scenarios {
namespace {

constexpr int kWorkers = 3;
constexpr int64_t kLongestMs = 2000;

// What a worker is doing when it dies, and how often it does that in a run.
struct Phase {
  std::string_view event;
  int64_t often;
};
constexpr std::array<Phase, 15> kPhases = {{
    {"store", 60},
    {"listening", 1},
    {"net.connect", 6},
    {"net.accept", 6},
    {"send.hello", 12},
    {"send.descriptor", 40},
    {"send.payload", 120},
    {"send.tensor", 30},
    {"net.deliver", 250},
    {"request", 20},
    {"reply", 20},
    {"barrier.entered", 5},
    {"barrier.left", 5},
    {"call.completed", 20},
    {"pipe.connected", 4},
}};

std::string Pick(RandomStream& random) {
  return "w" + std::to_string(random.Below(kWorkers));
}

std::string PickPair(RandomStream& random, std::string_view between) {
  const int64_t first = static_cast<int64_t>(random.Below(kWorkers));
  const int64_t second = (first + random.Between(1, kWorkers - 1)) % kWorkers;
  return "w" + std::to_string(first) + std::string(between) + "w" +
         std::to_string(second);
}

std::string Ms(int64_t ms) { return std::to_string(ms) + "ms"; }

// From 1 to about `highest`; small and large numbers are equally likely.
int64_t DrawNumber(RandomStream& random, int64_t highest) {
  int64_t bound = 1;
  while (bound < highest && !random.OneIn(3)) bound *= 2;
  return random.Between(1, bound < highest ? bound : highest);
}

std::string AtAnEvent(RandomStream& random, const std::string& worker) {
  const Phase& phase = kPhases[random.Below(kPhases.size())];
  return " when " + worker + " " + std::string(phase.event) + "#" +
         std::to_string(DrawNumber(random, phase.often));
}

std::string AtATime(RandomStream& random) {
  return " after " + Ms(DrawNumber(random, 1000));
}

std::string AtSomePoint(RandomStream& random) {
  return random.OneIn(3) ? AtATime(random) : AtAnEvent(random, Pick(random));
}

std::string ForAWhile(RandomStream& random) {
  return " for " + Ms(DrawNumber(random, kLongestMs));
}

std::string BreakKind(RandomStream& random) {
  return random.OneIn(2) ? " reset" : " eof";
}

std::string DrawCrash(RandomStream& random) {
  const std::string victim = Pick(random);
  // Mostly at an event of the victim itself.
  std::string line = "crash " + victim;
  line += random.OneIn(4) ? AtSomePoint(random) : AtAnEvent(random, victim);
  if (!random.OneIn(5)) {
    line += " restart " + Ms(DrawNumber(random, kLongestMs));
  }
  return line;
}

std::string DrawCut(RandomStream& random) {
  if (random.OneIn(2)) {
    return "cut " + PickPair(random, ">") + " byte " +
           std::to_string(DrawNumber(random, 20000)) + BreakKind(random);
  }
  return "cut " + PickPair(random, "-") + AtSomePoint(random) +
         BreakKind(random);
}

std::string DrawStoreOutage(RandomStream& random) {
  return "store-outage " +
         (random.OneIn(2) ? std::string("all") : Pick(random)) +
         AtSomePoint(random) + ForAWhile(random);
}

using Family = std::string (*)(RandomStream&);
constexpr std::array<Family, 8> kFamilies = {{
    &DrawCrash,
    &DrawCut,
    [](RandomStream& random) {
      return "refuse " + Pick(random) + AtSomePoint(random) + ForAWhile(random);
    },
    [](RandomStream& random) {
      return "hold " + PickPair(random, "-") + AtSomePoint(random) +
             ForAWhile(random);
    },
    [](RandomStream& random) {
      return "drop-connect " + Pick(random) + AtSomePoint(random);
    },
    [](RandomStream& random) {
      return "pause " + Pick(random) + AtSomePoint(random) + ForAWhile(random);
    },
    &DrawStoreOutage,
    [](RandomStream& random) {
      return "store-delay " + Ms(DrawNumber(random, 50)) + AtSomePoint(random) +
             ForAWhile(random);
    },
}};

}  // namespace

std::vector<std::string> DrawFaults(RandomStream& random,
                                    const ScenarioParams& /*params*/) {
  // Most runs have crashes, and a few of the other families.
  std::vector<Family> families;
  if (!random.OneIn(4)) families.push_back(kFamilies[0]);
  for (size_t i = 1; i < kFamilies.size(); ++i) {
    if (random.OneIn(3)) families.push_back(kFamilies[i]);
  }
  if (families.empty()) families.push_back(kFamilies[0]);
  std::vector<std::string> lines;
  for (int64_t left = random.Between(1, 3); left > 0; --left) {
    // Half of the faults are crashes, where there are crashes.
    const size_t family =
        random.OneIn(2) ? 0
                        : static_cast<size_t>(random.Below(families.size()));
    lines.push_back(families[family](random));
  }
  return lines;
}

std::vector<std::string> DrawProcessFaults(RandomStream& random,
                                           const ScenarioParams& /*params*/) {
  const std::string when = " after " + Ms(random.Between(50, 400));
  if (random.OneIn(3)) {
    return {"pause " + Pick(random) + when + " for " +
            Ms(random.Between(50, 1000))};
  }
  return {"crash " + Pick(random) + when + " restart " +
          Ms(random.Between(1, 500))};
}

}  // namespace reprise::scenarios

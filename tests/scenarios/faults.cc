#include "tests/scenarios/faults.h"

#include <array>
#include <cstdint>
#include <string_view>

namespace reprise::scenarios {

std::string_view DrawDeath(Draws& random, DrawName name) {
  constexpr std::array<std::string_view, 3> kDeaths = {"crash ", "kill ",
                                                       "power "};
  return kDeaths[random.Below(name, kDeaths.size())];
}

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

std::string Pick(Draws& random, DrawName name) {
  return "w" + std::to_string(random.Below(name, kWorkers));
}

std::string PickPair(Draws random, std::string_view between) {
  const int64_t first = static_cast<int64_t>(random.Below("first", kWorkers));
  const int64_t second =
      (first + random.Between("second", 1, kWorkers - 1)) % kWorkers;
  return "w" + std::to_string(first) + std::string(between) + "w" +
         std::to_string(second);
}

std::string Ms(int64_t ms) { return std::to_string(ms) + "ms"; }

// From 1 to about `highest`; small and large numbers are equally likely.
int64_t DrawNumber(Draws random, int64_t highest) {
  int64_t bound = 1;
  while (bound < highest && !random.OneIn("small enough", 3)) bound *= 2;
  return random.Between("number", 1, bound < highest ? bound : highest);
}

std::string AtAnEvent(Draws random, const std::string& worker) {
  const Phase& phase = kPhases[random.Below("phase", kPhases.size())];
  return " when " + worker + " " + std::string(phase.event) + "#" +
         std::to_string(DrawNumber(random.Part("count"), phase.often));
}

std::string AtATime(Draws random) {
  return " after " + Ms(DrawNumber(random.Part("time"), 1000));
}

std::string AtSomePoint(Draws random) {
  if (random.OneIn("at a time", 3)) return AtATime(random.Part("time"));
  const std::string worker = Pick(random, "worker");
  return AtAnEvent(random.Part("event"), worker);
}

std::string ForAWhile(Draws random) {
  return " for " + Ms(DrawNumber(random.Part("length"), kLongestMs));
}

std::string BreakKind(Draws& random, DrawName name) {
  return random.OneIn(name, 2) ? " reset" : " eof";
}

std::string DrawHold(Draws random) {
  std::string line = "swizzle " + Pick(random, "worker");
  if (!random.OneIn("of all links", 4)) {
    const bool is_one_way = random.OneIn("one way", 3);
    line = "hold " + PickPair(random.Part("pair"), is_one_way ? ">" : "-");
  }
  return line + AtSomePoint(random.Part("point")) +
         ForAWhile(random.Part("length"));
}

std::string DrawCrash(Draws random) {
  const std::string victim = Pick(random, "victim");
  // Mostly at an event of the victim itself.
  std::string line = std::string(DrawDeath(random, "death")) + victim;
  line += random.OneIn("at any event", 4)
              ? AtSomePoint(random.Part("point"))
              : AtAnEvent(random.Part("event"), victim);
  if (!random.OneIn("stays away", 5)) {
    line += " restart " + Ms(DrawNumber(random.Part("restart"), kLongestMs));
  }
  return line;
}

std::string DrawCut(Draws random) {
  if (random.OneIn("at a byte", 2)) {
    return "cut " + PickPair(random.Part("direction"), ">") + " byte " +
           std::to_string(DrawNumber(random.Part("byte"), 20000)) +
           BreakKind(random, "reset at a byte");
  }
  return "cut " + PickPair(random.Part("pair"), "-") +
         AtSomePoint(random.Part("point")) + BreakKind(random, "reset");
}

std::string DrawStoreOutage(Draws random) {
  return "store-outage " +
         (random.OneIn("of all", 2) ? std::string("all")
                                    : Pick(random, "worker")) +
         AtSomePoint(random.Part("point")) + ForAWhile(random.Part("length"));
}

using Family = std::string (*)(Draws);
constexpr std::array<Family, 8> kFamilies = {{
    &DrawCrash,
    &DrawCut,
    [](Draws random) {
      return "refuse " + Pick(random, "worker") +
             AtSomePoint(random.Part("point")) +
             ForAWhile(random.Part("length"));
    },
    &DrawHold,
    [](Draws random) {
      return "drop-connect " + Pick(random, "worker") +
             AtSomePoint(random.Part("point"));
    },
    [](Draws random) {
      return "pause " + Pick(random, "worker") +
             AtSomePoint(random.Part("point")) +
             ForAWhile(random.Part("length"));
    },
    &DrawStoreOutage,
    [](Draws random) {
      return "store-delay " + Ms(DrawNumber(random.Part("delay"), 50)) +
             AtSomePoint(random.Part("point")) +
             ForAWhile(random.Part("length"));
    },
}};

}  // namespace

std::vector<std::string> DrawFaults(Draws random,
                                    const ScenarioParams& /*params*/) {
  // Most runs have crashes, and a few of the other families.
  std::vector<Family> families;
  if (!random.OneIn("no crashes", 4)) families.push_back(kFamilies[0]);
  for (size_t i = 1; i < kFamilies.size(); ++i) {
    if (random.OneIn("the next family", 3)) families.push_back(kFamilies[i]);
  }
  if (families.empty()) families.push_back(kFamilies[0]);
  std::vector<std::string> lines;
  for (int64_t left = random.Between("faults", 1, 3); left > 0; --left) {
    // Half of the faults are crashes, where there are crashes.
    const size_t family =
        random.OneIn("of the first family", 2)
            ? 0
            : static_cast<size_t>(random.Below("family", families.size()));
    lines.push_back(families[family](random.Part("fault")));
  }
  return lines;
}

void AddStoreDoubts(Draws random, StoreDoubts doubts, int workers,
                    int64_t latest_ms, std::vector<std::string>& lines) {
  if (!random.OneIn("in doubt of the store", 3)) return;
  const std::string worker =
      "w" +
      std::to_string(random.Below("worker", static_cast<uint64_t>(workers)));
  // A single operation, or all for a while.
  const bool single = random.OneIn("a single one", 2);
  const std::string when =
      single ? " when " + worker + " store#" +
                   std::to_string(DrawNumber(random.Part("count"), 100))
             : " after " + Ms(random.Between("at", 1, latest_ms));
  const std::string length =
      " for " + (single ? "1us" : Ms(random.Between("length", 1, 1000)));
  const bool all = !single && random.OneIn("all workers", 3);
  const std::string whose = all ? " all" : " " + worker;
  const int64_t kinds = doubts == StoreDoubts::kLateEffects ? 4 : 3;
  switch (random.Below("kind", static_cast<uint64_t>(kinds))) {
    case 0:
      lines.push_back("store-slow-keys " + Ms(random.Between("delay", 1, 200)) +
                      when + length);
      break;
    case 1:
    case 2:
      lines.push_back("store-lost-reply" + whose + when + length +
                      (random.OneIn("silent", 4) ? " silent" : " reset"));
      break;
    default:
      lines.push_back("store-late-effect" + whose + " " +
                      Ms(DrawNumber(random.Part("late"), 2000)) + when +
                      length);
      break;
  }
}

std::vector<std::string> DrawProcessFaults(Draws random,
                                           const ScenarioParams& /*params*/) {
  const std::string when = " after " + Ms(random.Between("at", 50, 400));
  if (random.OneIn("pause", 3)) {
    return {"pause " + Pick(random, "who pauses") + when + " for " +
            Ms(random.Between("length", 50, 1000))};
  }
  return {"crash " + Pick(random, "who crashes") + when + " restart " +
          Ms(random.Between("restart", 1, 500))};
}

}  // namespace reprise::scenarios

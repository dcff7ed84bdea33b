#include "tests/scenarios/swarm.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <string_view>

#include "absl/strings/match.h"
#include "tests/scenarios/faults.h"

namespace reprise::scenarios {
namespace {

constexpr int64_t kLongestStallMs = 3000;

std::string Ms(int64_t ms) { return std::to_string(ms) + "ms"; }

// From 1 to `highest`, each order of magnitude as likely as the others.
int64_t DrawSize(Draws random, int64_t highest) {
  const int64_t most = std::max<int64_t>(highest, 1);
  const int doublings = std::bit_width(static_cast<uint64_t>(most));
  const int64_t bound = int64_t{1} << random.Between("doublings", 0, doublings);
  return random.Between("size", 1, std::min(most, bound));
}

class SwarmDrawer {
 public:
  SwarmDrawer(int64_t storm_ms, int workers)
      : storm_ms_(storm_ms), workers_(static_cast<uint64_t>(workers)) {}

  std::string Death(Draws random) const {
    const std::string victim = One(random, "victim");
    return std::string(DrawDeath(random, "death")) + victim +
           Begin(random.Part("begin"), victim) + " restart " +
           Ms(DrawSize(random.Part("restart"), storm_ms_ / 2));
  }
  std::string Link(Draws random) const {
    const std::string begin = Begin(random.Part("begin"), One(random, "at"));
    const std::string length = Length(random.Part("length"));
    const std::string one = One(random, "one");
    switch (random.Below("of links", 6)) {
      case 0:
        return "cut " + Pair(random.Part("cut")) + begin +
               (random.OneIn("reset", 2) ? " reset" : " eof");
      case 1:
        return "refuse " + one + begin + length;
      case 2:
        return "drop-connect " + one + begin;
      case 3:
        return "delay " + Way(random.Part("delay")) + " " +
               Ms(DrawSize(random.Part("by"), 500)) + begin + length;
      case 4:
        return "swizzle " + one + begin + length;
      default:
        return "hold " + Way(random.Part("hold")) + begin + length;
    }
  }
  std::string Machine(Draws random) const {
    const std::string one = One(random, "one");
    // No longer than the scenarios' slack.
    const std::string rest = Begin(random.Part("begin"), one) +
                             Length(random.Part("length"), kLongestStallMs);
    switch (random.Below("of machines", 3)) {
      case 0:
        return "pause " + one + rest;
      case 1:
        return "slow " + one + " " +
               std::to_string(DrawSize(random.Part("by"), 1000)) + "us" + rest;
      default:
        return "no-memory " + one + rest;
    }
  }
  std::string Store(Draws random) const {
    const std::string one = One(random, "one");
    const std::string whose = random.OneIn("all", 3) ? "all" : one;
    const std::string rest =
        Begin(random.Part("begin"), one) + Length(random.Part("length"));
    switch (random.Below("of the store", 4)) {
      case 0:
        return "store-outage " + whose + rest;
      case 1:
        return "store-delay " + Ms(DrawSize(random.Part("delay"), 200)) + rest;
      case 2:
        return "store-slow-keys " + Ms(DrawSize(random.Part("slow"), 200)) +
               rest;
      default:
        return "store-lost-reply " + whose + rest +
               (random.OneIn("silent", 4) ? " silent" : " reset");
    }
  }
  std::string Clock(Draws random) const {
    const std::string one = One(random, "one");
    if (random.OneIn("jumps", 2)) {
      return "clock-jump " + one + " " +
             Ms(DrawSize(random.Part("jump"), 100'000'000)) +
             Begin(random.Part("begin"), one) +
             (random.OneIn("ahead", 2) ? " ahead" : " behind");
    }
    return "clock-drift " + one + " " + Ms(DrawSize(random.Part("drift"), 20)) +
           " after 0s for ever" + (random.OneIn("fast", 2) ? " fast" : " slow");
  }

 private:
  std::string One(Draws& random, DrawName name) const {
    return "w" + std::to_string(random.Below(name, workers_));
  }
  // "w0-w1", or one against all others.
  std::string Pair(Draws random, std::string_view between = "-") const {
    const uint64_t first = random.Below("first", workers_);
    const uint64_t second =
        (first + 1 + random.Below("second", workers_ - 1)) % workers_;
    return "w" + std::to_string(first) + std::string(between) + "w" +
           std::to_string(second);
  }
  std::string Way(Draws random) const {
    const std::string_view between = random.OneIn("one way", 3) ? ">" : "-";
    if (!random.OneIn("of a group", 4)) {
      return Pair(random.Part("pair"), between);
    }
    const uint64_t lone = random.Below("lone", workers_);
    std::string others;
    for (uint64_t rank = 0; rank < workers_; ++rank) {
      if (rank == lone) continue;
      others += (others.empty() ? "w" : ",w") + std::to_string(rank);
    }
    const std::string alone = "w" + std::to_string(lone);
    return random.OneIn("from the others", 2)
               ? others + std::string(between) + alone
               : alone + std::string(between) + others;
  }
  // At a time, or at an event of `worker`.
  std::string Begin(Draws random, const std::string& worker) const {
    if (random.OneIn("at a time", 2)) {
      return " after " + Ms(random.Between("time", 1, storm_ms_ / 2));
    }
    struct Moment {
      std::string_view event;
      int64_t in_a_second;
    };
    constexpr std::array<Moment, 12> kMoments = {{{"store", 20},
                                                  {"net.connect", 3},
                                                  {"net.accept", 3},
                                                  {"send.hello", 6},
                                                  {"send.descriptor", 30},
                                                  {"send.payload", 60},
                                                  {"send.tensor", 20},
                                                  {"net.deliver", 100},
                                                  {"request", 10},
                                                  {"reply", 10},
                                                  {"call.completed", 10},
                                                  {"pipe.connected", 2}}};
    const Moment& moment = kMoments[random.Below("event", kMoments.size())];
    const int64_t in_half = 1 + moment.in_a_second * storm_ms_ / 2000;
    return " when " + worker + " " + std::string(moment.event) + "#" +
           std::to_string(DrawSize(random.Part("count"), in_half));
  }
  std::string Length(Draws random, int64_t longest_ms = INT64_MAX) const {
    return " for " + Ms(DrawSize(random.Part("length"),
                                 std::min(longest_ms, storm_ms_ / 2)));
  }

  const int64_t storm_ms_;
  const uint64_t workers_;
};

}  // namespace

std::vector<std::string> DrawSwarm(Draws random, const ScenarioParams& params,
                                   int workers, bool clocks) {
  const SwarmDrawer drawer(params.find("storm_ms")->second, workers);
  using Family = std::string (SwarmDrawer::*)(Draws) const;
  constexpr std::array<Family, 5> kFamilies = {
      &SwarmDrawer::Death, &SwarmDrawer::Link, &SwarmDrawer::Machine,
      &SwarmDrawer::Store, &SwarmDrawer::Clock};
  std::vector<std::string> lines;
  for (const Family family : kFamilies) {
    if (!random.OneIn("is on", 2)) continue;
    if (family == &SwarmDrawer::Clock && !clocks) continue;
    const int64_t strength = DrawSize(random.Part("strength"), 6);
    for (int64_t i = 0; i < strength; ++i) {
      lines.push_back((drawer.*family)(random.Part("fault")));
    }
  }
  return lines;
}

bool IsShortOfMemory(const absl::Status& status) {
  return absl::IsResourceExhausted(status) &&
         absl::StrContains(status.message(), "short of memory");
}

}  // namespace reprise::scenarios

#include "sim/world/rare_way.h"

#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "sim/random.h"
#include "sim/world/decision.h"
#include "sim/world/fiber.h"
#include "sim/world/world.h"

namespace reprise {
namespace {

constexpr uint64_t kPlacesPerArmed = 4;
constexpr uint64_t kVisitsPerRare = 8;

bool IsArmed(uint64_t seed, const Place& place) {
  return Mix(HashCombine(seed, place.hash)) % kPlacesPerArmed == 0;
}

void Tell(World& world, const char* name) {
  world.Record(
      world.scheduler().current()->node,
      {.kind = EventKind::kProbe, .text = absl::StrCat("rare: ", name)});
}

}  // namespace

bool DecideRareWay(const char* name, bool draws) {
  World* const world = World::Current();
  if (world == nullptr || world->scheduler().current() == nullptr) return false;
  const InSimulator in_simulator;
  Decisions& decisions = world->decisions();
  if (!draws && !decisions.replaying()) return false;
  const Place& place = decisions.PlaceAt("rare", name);
  Fiber& self = *world->scheduler().current();
  Site& site = self.sites.At(place);
  site.Visit();
  if (decisions.replaying()) {
    if (decisions.Recorded(site, DecisionKind::kRare).value_or(0) == 0) {
      return false;
    }
    Tell(*world, name);
    return true;
  }
  if (!IsArmed(decisions.seed(), place)) return false;
  decisions.CountMade();
  if (site.Bits(DecisionKind::kRare) % kVisitsPerRare != 0) return false;
  decisions.Keep(site, DecisionKind::kRare, 1);
  Tell(*world, name);
  return true;
}

}  // namespace reprise

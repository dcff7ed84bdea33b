#include "sim/world/agent_probe.h"

#include "absl/strings/str_cat.h"
#include "sim/world/fiber.h"
#include "sim/world/world.h"

namespace reprise {

void RecordAgentProbe(const char* name) {
  World* const world = World::Current();
  if (world == nullptr || world->scheduler().current() == nullptr) return;
  const InSimulator in_simulator;
  world->Record(
      world->scheduler().current()->node,
      {.kind = EventKind::kProbe, .text = absl::StrCat("agent: ", name)});
}

}  // namespace reprise

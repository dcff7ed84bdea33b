// Draws plans for groups of three workers. A run has one to three faults, of
// only some of the families of faults, so that one kind of fault does not
// always hide another.

#ifndef REPRISE_TESTS_SCENARIOS_FAULTS_H_
#define REPRISE_TESTS_SCENARIOS_FAULTS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sim/scenario/scenario.h"

namespace reprise::scenarios {

// Draws from all families. Everything heals within 3 seconds, except for a
// worker that crashes for good.
std::vector<std::string> DrawFaults(Draws random, const ScenarioParams& params);

// Which faults of the store `AddStoreDoubts` draws.
enum class StoreDoubts : uint8_t {
  kLostReplies,  // effects that nobody was told of, and slow keys
  kLateEffects,  // those, and effects that come late
};

// In one of three runs, adds a fault after which a worker does not know what it
// has done to the store. It begins before `latest_ms`.
void AddStoreDoubts(Draws random, StoreDoubts doubts, int workers,
                    int64_t latest_ms, std::vector<std::string>& lines);

// How a worker dies: "crash ", "kill " or "power ".
std::string_view DrawDeath(Draws& random, DrawName name);

// Draws faults that exist between processes: a crash with a restart, or a
// pause.
std::vector<std::string> DrawProcessFaults(Draws random,
                                           const ScenarioParams& params);

}  // namespace reprise::scenarios

#endif  // REPRISE_TESTS_SCENARIOS_FAULTS_H_

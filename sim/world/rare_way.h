// How a world decides about the agent's rare ways (agent/rare_way.h).

#ifndef REPRISE_SIM_WORLD_RARE_WAY_H_
#define REPRISE_SIM_WORLD_RARE_WAY_H_

namespace reprise {

// Whether this visit of `place`, a literal, goes the rare way. In a replay that
// is as recorded. Else, if `draws`, one place in four is armed in a run, and of
// its visits one in eight goes the rare way. Each one that does is recorded as
// the coverage probe "rare: PLACE". False outside of worlds.
bool DecideRareWay(const char* place, bool draws);

}  // namespace reprise

#endif  // REPRISE_SIM_WORLD_RARE_WAY_H_

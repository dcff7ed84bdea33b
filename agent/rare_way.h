// Rare ways: places where the agent may do what is right, and what it would
// otherwise do once in a blue moon: wake for nothing, look early, be slow
// before a step. None of them may make a call fail that has time.
//
//   if (REPRISE_RARE_WAY("timer wakes")) ...
//
// In the shipped agent this is the constant false, and the compiler drops the
// branch; tests/planted/rare_ways_test.sh looks for the names of the places,
// which it lists, in its object code. In the planted build (planted.h) a
// simulated world draws which places are armed in a run, and then which visits
// of theirs go the rare way. To be used on a thread of the runtime's, with or
// without locks held; it may not return, as a fault may crash the worker there.
// The name is a literal, and of one place only.

#ifndef REPRISE_AGENT_RARE_WAY_H_
#define REPRISE_AGENT_RARE_WAY_H_

#ifdef REPRISE_WITH_PLANTED_DEFECTS
namespace reprise {
bool TakesRareWay(const char* place);
}  // namespace reprise
#define REPRISE_RARE_WAY(place) (::reprise::TakesRareWay(place))
#else
#define REPRISE_RARE_WAY(place) false
#endif

#endif  // REPRISE_AGENT_RARE_WAY_H_

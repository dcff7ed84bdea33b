// Coverage probes: branches of the agent that are taken once in a blue moon.
//
//   REPRISE_PROBE("call cancelled while it is written");
//
// In the shipped agent this is nothing, and its object code has no such text.
// In the planted build (planted.h) a simulated world that is asked to records
// each visit, and an exploration says in how many seeds a probe was reached.
// tests/planted/agent_probes_test.sh lists those that its explorations must
// reach, and fails when they miss one, and those that no scenario reaches yet,
// and fails when one does. To be used on any thread, with or without locks
// held; it may not return, as a fault may crash the worker there. The name is a
// literal, and of one place only.

#ifndef REPRISE_AGENT_PROBE_H_
#define REPRISE_AGENT_PROBE_H_

#ifdef REPRISE_WITH_PLANTED_DEFECTS
namespace reprise {
void ReachesProbe(const char* name);
}  // namespace reprise
#define REPRISE_PROBE(name) (::reprise::ReachesProbe(name))
#else
#define REPRISE_PROBE(name) static_cast<void>(0)
#endif

#endif  // REPRISE_AGENT_PROBE_H_

// Planted defects: copies of real bugs at the places where they would be.
//
// In every normal build `REPRISE_PLANTED(x)` is the constant false and the
// compiler drops the branch. Only targets built with
// REPRISE_WITH_PLANTED_DEFECTS (see fault_injection/planted.h) can switch one
// on, to prove that an invariant can fail.

#ifndef REPRISE_AGENT_PLANTED_H_
#define REPRISE_AGENT_PLANTED_H_

#ifdef REPRISE_WITH_PLANTED_DEFECTS
namespace reprise {
bool IsPlanted(const char* name);
}  // namespace reprise
#define REPRISE_PLANTED(name) (::reprise::IsPlanted(#name))
#else
#define REPRISE_PLANTED(name) false
#endif

#endif  // REPRISE_AGENT_PLANTED_H_

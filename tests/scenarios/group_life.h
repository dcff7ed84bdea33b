// What a worker of a dynamic group does in the scenarios of groups. For a while
// it joins, calls the members that it sees, leaves or goes without leaving, and
// comes back. Then all members that are there stay, must agree on who is there,
// and must reach each other. At last they leave.
//
// Rules, besides those of echo_agent.h:
//
//  in-time    no join and no leave returns after its deadline
//  joins      a worker that tries to join for kHeal has joined
//  call       a call fails only for a reason that can exist
//  prompt     neither sending a call nor listing the members blocks, however
//             slow the store is
//  look-up    each member is found by its name and by its id alike
//  maps       the devices of a reply are those that the caller has published
//  agree      when no worker comes or goes any more, all see the same members
//  reach      all members can call each other then
//  leave      all members can leave then
//  graceful   where nothing is broken, a worker that leaves breaks no call
//  token      a worker that failed to join does not keep the group's token

#ifndef REPRISE_TESTS_SCENARIOS_GROUP_LIFE_H_
#define REPRISE_TESTS_SCENARIOS_GROUP_LIFE_H_

#include <string>
#include <vector>

#include "sim/scenario/scenario.h"

namespace reprise::scenarios {

// The parameters that a scenario must declare:
//   active_ms    how long workers come and go
//   lives        how often each worker joins, at most
//   life_ms      how long each worker stays, at most
//   pause_ms     the longest pause between two calls
//   graceful     1: nothing is ever broken
//   renames      1: some workers come back under another name, with the same id
//   refresh_ms   AgentOptions::membership_refresh
//   maps         1: with device maps
//   send_ms      how long sending may take; more than 0 is for workers that may
//                be paused meanwhile
void LiveInAGroup(Worker& worker);

// DrawFaults, with further crashes in the middle of a join or a leave.
std::vector<std::string> DrawGroupFaults(Draws random,
                                         const ScenarioParams& params);

// Draws faults of the store only: it is slow, or cannot be reached.
std::vector<std::string> DrawStoreFaults(Draws random,
                                         const ScenarioParams& params);

}  // namespace reprise::scenarios

#endif  // REPRISE_TESTS_SCENARIOS_GROUP_LIFE_H_

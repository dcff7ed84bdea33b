// What a worker of a dynamic group does in the scenarios of groups: it joins,
// calls whom it sees, leaves or just goes, and comes back, for a while. Then
// all that are there stay, and must agree on who that is and reach each other;
// and then they leave.
//
// Rules, besides those of echo_agent.h:
//
//  in-time    no join and no leave returns later than it was told
//  joins      who tries for `heal_ms` is in
//  call       a call fails for a reason that there can be
//  prompt     to send one, or to see who is there, waits for nobody, however
//             slow the store is
//  look-up    whoever is there is found by name and by id alike
//  maps       the devices of a reply are what the caller has published
//  agree      once it is quiet, all that are there see the same members
//  reach      and can call each other
//  leave      and can leave
//  graceful   where nothing is broken, nobody is cut off by one that leaves
//  token      nobody keeps the group's token who has failed to join

#ifndef REPRISE_TESTS_SCENARIOS_GROUP_LIFE_H_
#define REPRISE_TESTS_SCENARIOS_GROUP_LIFE_H_

#include <string>
#include <vector>

#include "sim/scenario/scenario.h"

namespace reprise::scenarios {

// The parameters that a scenario must declare:
//   active_ms    how long they come and go
//   lives        how often each joins, at most
//   life_ms      how long each stays, at most
//   pause_ms     between two calls, at most
//   graceful     1: nothing is ever broken
//   renames      1: some come back under another name, with the same id
//   refresh_ms   AgentOptions::membership_refresh
//   maps         1: with device maps
//   send_ms      how long that may take: no time, but for who stands still
//                meanwhile
void LiveInAGroup(Worker& worker);

// DrawFaults, with some more crashes in the middle of a join or a leave.
std::vector<std::string> DrawGroupFaults(RandomStream& random,
                                         const ScenarioParams& params);

// Of the store alone: it is slow, or away.
std::vector<std::string> DrawStoreFaults(RandomStream& random,
                                         const ScenarioParams& params);

}  // namespace reprise::scenarios

#endif  // REPRISE_TESTS_SCENARIOS_GROUP_LIFE_H_

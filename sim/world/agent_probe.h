// How a world records the agent's coverage probes (agent/probe.h).

#ifndef REPRISE_SIM_WORLD_AGENT_PROBE_H_
#define REPRISE_SIM_WORLD_AGENT_PROBE_H_

namespace reprise {

// Records a visit as the coverage probe "agent: NAME". Does nothing outside of
// worlds.
void RecordAgentProbe(const char* name);

}  // namespace reprise

#endif  // REPRISE_SIM_WORLD_AGENT_PROBE_H_

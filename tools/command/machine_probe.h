// The machine probe: the settings of this machine that a run needs, as findings
// of the doctor.

#ifndef REPRISE_TOOLS_COMMAND_MACHINE_PROBE_H_
#define REPRISE_TOOLS_COMMAND_MACHINE_PROBE_H_

#include <vector>

#include "tools/command/doctor.h"

namespace reprise {

std::vector<DoctorFinding> ProbeMachine();

}  // namespace reprise

#endif  // REPRISE_TOOLS_COMMAND_MACHINE_PROBE_H_

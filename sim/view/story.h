// The story of a run: its trace, told in sentences for people.

#ifndef REPRISE_SIM_VIEW_STORY_H_
#define REPRISE_SIM_VIEW_STORY_H_

#include <cstddef>
#include <string>
#include <vector>

#include "sim/scenario/run_result.h"

namespace reprise {

// At most `max_lines` lines: the last events of the run, then what each thread
// waits for at a deadlock, then the rule that was violated. The first line says
// how many earlier lines are left out.
std::vector<std::string> TellStory(const RunResult& result, size_t max_lines);

}  // namespace reprise

#endif  // REPRISE_SIM_VIEW_STORY_H_

// A trace as a story: who did what when, for people.

#ifndef REPRISE_SIM_VIEW_STORY_H_
#define REPRISE_SIM_VIEW_STORY_H_

#include <cstddef>
#include <string>
#include <vector>

#include "sim/scenario/run_result.h"

namespace reprise {

// At most `max_lines` lines: what led to the end of the run, the violated rule
// last. Of a long run, what is left out is counted.
std::vector<std::string> TellStory(const RunResult& result, size_t max_lines);

}  // namespace reprise

#endif  // REPRISE_SIM_VIEW_STORY_H_

// The story of a run: its trace, told in sentences for people.

#ifndef REPRISE_SIM_VIEW_STORY_H_
#define REPRISE_SIM_VIEW_STORY_H_

#include <cstddef>
#include <string>
#include <vector>

#include "sim/scenario/run_result.h"

namespace reprise {

inline constexpr size_t kStoryLines = 40;

// At most `max_lines` lines, in the order of what happened: the faults that
// struck, the calls, waits and members that the violated rule is about, what
// their peers saw of it, and as much else as there is room for, what came last
// first. Then, after a failure, who waits for whom, the rule and what it means.
// Lines of the topology come first, then one that says how many lines are left
// out.
std::vector<std::string> TellStory(const RunResult& result,
                                   size_t max_lines = kStoryLines);

// The same with a line for every event that has words.
std::vector<std::string> TellEverything(const RunResult& result);

}  // namespace reprise

#endif  // REPRISE_SIM_VIEW_STORY_H_

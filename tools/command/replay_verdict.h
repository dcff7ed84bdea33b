// What a replay, and a search around it, says of a recorded failure.

#ifndef REPRISE_TOOLS_COMMAND_REPLAY_VERDICT_H_
#define REPRISE_TOOLS_COMMAND_REPLAY_VERDICT_H_

#include <string>

#include "sim/explore/replay_file.h"
#include "sim/explore/search.h"
#include "sim/scenario/run_result.h"

namespace reprise {

struct Verdict {
  int exit_code;        // as in command.h
  std::string outcome;  // for machines
  std::string text;     // for people
};

// Of the run of the file as it is. `same_build`: this program wrote the file.
Verdict JudgeReplay(const ReplayFile& replay, const RunResult& result,
                    bool same_build);

// Of a search that followed because nothing was violated. `path`: the file of
// what was found, if any.
Verdict JudgeSearch(const ReplayFile& replay, const SearchResult& search,
                    const std::string& path);

}  // namespace reprise

#endif  // REPRISE_TOOLS_COMMAND_REPLAY_VERDICT_H_

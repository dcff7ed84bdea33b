// A replay file: a failure that can be run again, as text.
//
//   reprise replay 2
//   scenario lifecycle
//   seed 17
//   param calls 200
//   plant lost_wakeup                  the planted defect, if any
//   topology link w0-w1 latency 20ms   what the seed drew or --topology gave
//   fault crash w1 when w1 send.payload#3 restart 200ms
//   schedule random                    how the decisions were found
//   stack-kib 64                       of each fiber, if it was given
//   runtime real                       of the workers, if not the simulator's
//   build 6f0c...                      of the program that wrote it
//   hash 0123456789abcdef
//   rule exactly-once
//   detail w1 call 7: never completed
//   expect holds                       only in the file of a mended defect
//   decision w1/main [call w2 5] lock:calls#2 switch 1
//   ...
//   check 0123456789abcdef             of the lines above
//   end
//
// Decisions that are not listed are the default. Lines may be edited or
// deleted: the check then says so, and the file is run as what it says. Blank
// lines and lines that begin with '#' are ignored. Faults may have their older
// words (fault_injection/fault_kind.h).
//
// Files of the first version ("reprise replay 1") can be read. They have no
// check, and their decisions at locks name only a node, so that none of these
// is ever reached.

#ifndef REPRISE_SIM_EXPLORE_REPLAY_FILE_H_
#define REPRISE_SIM_EXPLORE_REPLAY_FILE_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "sim/explore/sim_run.h"
#include "sim/scenario/scenario.h"
#include "sim/world/decision.h"

namespace reprise {

struct ReplayFile {
  std::string scenario;
  uint64_t seed = 0;
  ScenarioParams params;
  std::string plant;
  std::vector<std::string> topology;  // beyond the scenario's own
  std::vector<std::string> faults;
  std::string schedule;
  uint64_t stack_kib = 0;  // 0: the default
  RuntimeKind runtime = RuntimeKind::kSimulated;
  std::string build;
  uint64_t hash = 0;
  std::string rule;
  std::string detail;
  bool expects_hold = false;  // the defect is mended: no rule may be violated
  std::vector<Decision> decisions;

  // Of a file that was read: whether it says something else than what was
  // written or has no check, and in which lines its parameters, faults
  // and links stand.
  bool is_edited = false;
  std::map<std::string, int> param_lines;
  std::vector<int> fault_lines;
  std::vector<int> topology_lines;
};

// `comment` stands at the top, a line each, if it is not empty.
std::string FormatReplay(const ReplayFile& replay,
                         const std::vector<std::string>& comment = {});

// The error is INVALID_ARGUMENT and says which line is wrong, and why.
absl::StatusOr<ReplayFile> ParseReplay(std::string_view text);

// Checks a file against the scenario that it names: INVALID_ARGUMENT with the
// line of a parameter that the scenario does not have, or of a fault or a link
// that makes no sense.
absl::Status CheckReplay(const ReplayFile& replay, const Scenario& scenario);

absl::StatusOr<ReplayFile> ReadReplay(const std::string& path);

// Writes `text` to a file as a whole or not at all. UNAVAILABLE with the
// system's reason.
absl::Status WriteFile(const std::string& path, std::string_view text);

// Identifies this program: a digest of its executable.
std::string BuildId();

}  // namespace reprise

#endif  // REPRISE_SIM_EXPLORE_REPLAY_FILE_H_

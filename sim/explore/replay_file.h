// A replay file: a failure that can be run again, as text.
//
//   reprise replay 1
//   scenario lifecycle
//   seed 17
//   param calls 200
//   plant lost_wakeup                  the planted defect, if any
//   fault crash w1 when w1 send.payload#3 restart 200ms
//   schedule random                    how the decisions were found
//   build 6f0c...                      of the program that wrote it
//   hash 0123456789abcdef
//   rule exactly-once
//   detail w1 call 7: never completed
//   decision w1 lock:calls#17 switch 1
//   ...
//   end
//
// Decisions that are not listed are the default. Lines may be edited or
// deleted. Blank lines and lines that begin with '#' are ignored. Faults may
// have their older words (fault_injection/fault_kind.h).

#ifndef REPRISE_SIM_EXPLORE_REPLAY_FILE_H_
#define REPRISE_SIM_EXPLORE_REPLAY_FILE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "sim/scenario/scenario.h"
#include "sim/world/decision.h"

namespace reprise {

struct ReplayFile {
  std::string scenario;
  uint64_t seed = 0;
  ScenarioParams params;
  std::string plant;
  std::vector<std::string> faults;
  std::string schedule;
  std::string build;
  uint64_t hash = 0;
  std::string rule;
  std::string detail;
  std::vector<Decision> decisions;
};

std::string FormatReplay(const ReplayFile& replay);

// The error is INVALID_ARGUMENT and says which line is wrong.
absl::StatusOr<ReplayFile> ParseReplay(std::string_view text);

absl::StatusOr<ReplayFile> ReadReplay(const std::string& path);

// Writes `text` to a file as a whole or not at all. UNAVAILABLE with the
// system's reason.
absl::Status WriteFile(const std::string& path, std::string_view text);

// Identifies this program: a digest of its executable.
std::string BuildId();

}  // namespace reprise

#endif  // REPRISE_SIM_EXPLORE_REPLAY_FILE_H_

// The `reprise` command: a deterministic simulator of the agent that finds and
// replays its failures.
//
// A program is the command, an agent (as it is shipped or with planted defects)
// and the scenarios that are linked into it.

#ifndef REPRISE_TOOLS_COMMAND_COMMAND_H_
#define REPRISE_TOOLS_COMMAND_COMMAND_H_

#include <functional>
#include <string>
#include <vector>

namespace reprise {

// Exit codes. `replay` returns kViolated when the failure happened again, was
// found around the recording, or another rule was violated; kNotDeterministic
// when the build that recorded it went another way; and kNotReproduced when
// another build violated no rule, which proves nothing. `explore` returns
// kInconclusive when nothing failed, but a coverage probe was never reached or
// a kind of fault never struck.
inline constexpr int kHeld = 0;
inline constexpr int kViolated = 1;
inline constexpr int kUsage = 2;
inline constexpr int kNotDeterministic = 3;
inline constexpr int kInconclusive = 4;
inline constexpr int kNotReproduced = 5;

// A program whose agent has planted defects offers `--plant`.
struct Planting {
  std::function<bool(const std::string& name)> plant;
  std::function<std::vector<std::string>()> describe;  // a line each
};

// Runs the command line and returns the exit code. `planting` is null for the
// agent as it is shipped. To be called once, from `main`.
int CommandMain(int argc, char** argv, const Planting* planting);

}  // namespace reprise

#endif  // REPRISE_TOOLS_COMMAND_COMMAND_H_

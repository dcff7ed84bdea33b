// The `reprise` command.

#ifndef REPRISE_TOOLS_COMMAND_COMMAND_H_
#define REPRISE_TOOLS_COMMAND_COMMAND_H_

#include <functional>
#include <string>
#include <vector>

namespace reprise {

// Exit codes. `replay` uses kViolated for "it happened again", and
// kNotDeterministic when the same build went another way.
inline constexpr int kHeld = 0;
inline constexpr int kViolated = 1;
inline constexpr int kUsage = 2;
inline constexpr int kNotDeterministic = 3;
inline constexpr int kProvedTooLittle = 4;

// A program whose agent has planted defects offers `--plant`.
struct Planting {
  std::function<bool(const std::string& name)> plant;
  std::function<std::vector<std::string>()> describe;  // a line each
};

// `planting` is null for a real agent. Returns the exit code.
int CommandMain(int argc, char** argv, const Planting* planting);

}  // namespace reprise

#endif  // REPRISE_TOOLS_COMMAND_COMMAND_H_

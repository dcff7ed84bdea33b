// `reprise` over an agent that was built with planted defects.

#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_format.h"
#include "tests/planted/planted.h"
#include "tools/command/command.h"

namespace {

constexpr std::string_view kRareWays = "rare_ways";
constexpr std::string_view kAgentProbes = "agent_probes";

}  // namespace

int main(int argc, char** argv) {
  const reprise::Planting planting{
      [](const std::string& name) {
        if (name == kRareWays) {
          reprise::TakeRareWays();
        } else if (name == kAgentProbes) {
          reprise::TellAgentProbes();
        } else {
          return reprise::Plant(name);
        }
        return true;
      },
      [] {
        std::vector<std::string> lines = {
            absl::StrFormat("%-24s no defect: the agent takes ways that are "
                            "rare, and right",
                            kRareWays),
            absl::StrFormat(
                "%-24s no defect: the agent's coverage probes are reported",
                kAgentProbes)};
        for (const auto& defect : reprise::PlantedDefects()) {
          lines.push_back(absl::StrFormat("%-24s found by %-18s %s",
                                          defect.name, defect.scenario,
                                          defect.what));
        }
        return lines;
      }};
  return reprise::CommandMain(argc, argv, &planting);
}

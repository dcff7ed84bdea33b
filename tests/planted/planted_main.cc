// `reprise` over an agent that was built with planted defects.

#include "absl/strings/str_format.h"
#include "tests/planted/planted.h"
#include "tools/command/command.h"

int main(int argc, char** argv) {
  const reprise::Planting planting{
      [](const std::string& name) { return reprise::Plant(name); },
      [] {
        std::vector<std::string> lines;
        for (const auto& defect : reprise::PlantedDefects()) {
          lines.push_back(absl::StrFormat("%-24s found by %-18s %s",
                                          defect.name, defect.scenario,
                                          defect.what));
        }
        return lines;
      }};
  return reprise::CommandMain(argc, argv, &planting);
}

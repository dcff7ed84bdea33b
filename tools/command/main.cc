// `reprise` over the agent as it is shipped.

#include "tools/command/command.h"

int main(int argc, char** argv) {
  return reprise::CommandMain(argc, argv, /*planting=*/nullptr);
}

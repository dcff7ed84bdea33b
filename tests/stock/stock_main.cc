// `reprise` for scenarios of PyTorch's own agent: the same command, at the same
// addresses in every process.
//
// TensorPipe closes the pipes of PyTorch's agent in the order of their
// addresses. The heap of a world lies at a fixed address, and yet one run of
// seed 50 of `stock_mixed`, of 35, differed where the system chose the
// addresses of libraries and stacks. Of 230 at fixed addresses none did. What
// of them counts is not known.

#include <sys/personality.h>
#include <unistd.h>

#include <cstdio>

#include "tools/command/command.h"

namespace {

// Starts this program again without random addresses, unless it has none.
// Returns if it has none, or if the system does not let it.
void RunAtFixedAddresses(char** argv) {
  constexpr unsigned kAsk = 0xffffffff;
  const int now = personality(kAsk);
  if (now != -1 && (now & ADDR_NO_RANDOMIZE) != 0) return;
  if (now != -1 &&
      personality(static_cast<unsigned>(now) | ADDR_NO_RANDOMIZE) != -1) {
    execv("/proc/self/exe", argv);
  }
  std::fprintf(stderr,
               "reprise_stock: the system does not let this process have fixed "
               "addresses, so a seed may rarely be another run: allow "
               "personality(ADDR_NO_RANDOMIZE)\n");
}

}  // namespace

int main(int argc, char** argv) {
  RunAtFixedAddresses(argv);
  return reprise::CommandMain(argc, argv, /*planting=*/nullptr);
}

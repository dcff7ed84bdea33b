// The functions and lines of the program's code, from its debug information.
//
// To read it takes some 200 ms of each process that needs it, so it is read
// when it is first needed. A parent whose child needed it reads it before it
// forks the next one, which then has it.

#ifndef REPRISE_SIM_INTERPOSE_DEBUG_INFORMATION_H_
#define REPRISE_SIM_INTERPOSE_DEBUG_INFORMATION_H_

#include <cstdint>
#include <string>
#include <vector>

namespace reprise::interpose {

struct Frame {
  std::string function;
  std::string file;  // whole path; empty: there is no debug information
  int line = 0;
};

// The functions that `pc` lies in, from the innermost inlined one to the one
// that was compiled. Without debug information that is the ELF symbol; nothing
// if there is none. Not thread-safe. To be called outside the arena and within
// a RealCalls.
std::vector<Frame> FramesAt(uintptr_t pc);

// The symbol that a shared library exports for the code at `pc`, demangled; an
// empty text if there is none. Reads nothing. Thread-safe.
std::string ExportedSymbolAt(uintptr_t pc);

// Before each fork of a child that runs worlds.
void PrepareChild();

// How often the debug information was read by this process, from its first
// `PrepareChild` on, and by its children.
int NumReadsOfDebugInformation();

}  // namespace reprise::interpose

#endif  // REPRISE_SIM_INTERPOSE_DEBUG_INFORMATION_H_

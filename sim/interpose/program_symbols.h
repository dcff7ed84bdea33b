// The ELF symbols of the program, found without its debug information, which
// takes a tenth of a second to read.

#ifndef REPRISE_SIM_INTERPOSE_PROGRAM_SYMBOLS_H_
#define REPRISE_SIM_INTERPOSE_PROGRAM_SYMBOLS_H_

#include <cstdint>
#include <string_view>

namespace reprise::interpose {

// The mangled name of the program's function that `pc` lies in, or an empty
// text: it is stripped, or the function is another object's. Takes about a
// millisecond. Not thread-safe. The result lives as long as the process.
std::string_view ProgramSymbolAt(uintptr_t pc);

}  // namespace reprise::interpose

#endif  // REPRISE_SIM_INTERPOSE_PROGRAM_SYMBOLS_H_

// Whose code it is: of the code under test, of a library whose caller counts,
// or of TensorPipe and the project itself, which have no points and no sites.

#ifndef REPRISE_SIM_INTERPOSE_CODE_KIND_H_
#define REPRISE_SIM_INTERPOSE_CODE_KIND_H_

#include <cstdint>
#include <string_view>

#include "sim/interpose/debug_information.h"

namespace reprise::interpose {

enum class PlaceKind : uint8_t {
  kUser,     // the code under test
  kLibrary,  // std::, absl::, libc: its caller counts
  kQuiet,    // TensorPipe, glog, the project itself: no points, no sites
};

// By the path of a loaded object. The program's own is empty, and kUser.
PlaceKind KindOfObject(std::string_view path);

// Whether a mangled name is of a function, or of a lambda in a function, of
// this project or of TensorPipe. Scenarios and tests are in other namespaces.
bool IsOwnSymbol(std::string_view name);

// By the file that a function lies in, or by its name where there is no debug
// information. `in_program`: it is the program's, and not a shared library's.
// Not thread-safe.
PlaceKind KindOf(const Frame& frame, bool in_program);

}  // namespace reprise::interpose

#endif  // REPRISE_SIM_INTERPOSE_CODE_KIND_H_

// Where a call comes from, by names that survive another build: the function
// and the file, from the program's debug information (-g1 is enough). Inlined
// functions are seen through, so the names are the same at every level of
// optimisation. Without debug information the ELF symbol is taken, which is
// that of the function into which the caller was inlined.
//
// Functions of std::, absl:: and the C library are seen through as well: a
// place lies in the code that uses them.

#ifndef REPRISE_SIM_INTERPOSE_PLACE_H_
#define REPRISE_SIM_INTERPOSE_PLACE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "sim/interpose/code_kind.h"

namespace reprise::interpose {

// Made once for each address, and never destroyed.
struct CodePlace {
  PlaceKind kind = PlaceKind::kQuiet;
  // Whether it is no place, but the name of what is locked, waited for or
  // started (node_runtime.h).
  bool is_name = false;
  // Whether the code lies in a shared library of kind kLibrary, where locks
  // guard that library's own secrets.
  bool in_shared_library = false;
  std::string function;  // "Transfer", "lambda@bank.cc", of a library "get"
  std::string label;  // "bank.cc:Transfer": for sites, the same in all builds
  std::string where;  // "Transfer (bank.cc:31)": for reports
};

// The place of the call that returns to `return_address`. Thread-safe. To be
// called outside the arena and within a RealCalls.
const CodePlace& PlaceOf(const void* return_address);

// The code of libtensorpipe, from which most calls come; empty as long as no
// place in it was asked for.
inline constinit std::atomic<uintptr_t> quiet_code_low = 0;
inline constinit std::atomic<uintptr_t> quiet_code_size = 0;
// Of the calls in other code that are known to be of kind kQuiet, such as those
// of TensorPipe's templates, the last one with each hash.
inline constexpr size_t kQuietCalls = 256;
inline constinit std::atomic<uintptr_t> quiet_calls[kQuietCalls] = {};

inline std::atomic<uintptr_t>& QuietCallLike(uintptr_t address) {
  return quiet_calls[(address ^ address >> 8) % kQuietCalls];
}
inline void NoteQuietCall(const void* return_address) {
  const auto address = reinterpret_cast<uintptr_t>(return_address);
  QuietCallLike(address).store(address, std::memory_order_relaxed);
}

// Whether the place is known to be of kind kQuiet. May say no to one that is.
inline bool IsQuietCall(const void* return_address) {
  const auto address = reinterpret_cast<uintptr_t>(return_address);
  return address - quiet_code_low.load(std::memory_order_relaxed) <
             quiet_code_size.load(std::memory_order_relaxed) ||
         QuietCallLike(address).load(std::memory_order_relaxed) == address;
}

// The same for the innermost caller that is not a library's, found on the
// stack of the calling thread above the frame that `return_address` returns to.
// `library` is set to the last place passed on the way, or to null.
const CodePlace& PlaceOfUser(const void* return_address,
                             const CodePlace** library);

}  // namespace reprise::interpose

#endif  // REPRISE_SIM_INTERPOSE_PLACE_H_

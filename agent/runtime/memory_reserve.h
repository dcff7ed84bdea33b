// Memory that the process keeps back for the time when there is none.
//
// The agent reports a large allocation that fails as an error of the call that
// needed it. Small ones are everywhere, in TensorPipe and the standard library
// too, and most of them cannot fail without ending the process. So
// some address space is set aside, and given back piece by piece when `operator
// new` finds nothing. While a piece is missing the process is short of memory,
// and the agent refuses what would need more of it: calls, requests and
// connections fail with RESOURCE_EXHAUSTED.

#ifndef REPRISE_AGENT_RUNTIME_MEMORY_RESERVE_H_
#define REPRISE_AGENT_RUNTIME_MEMORY_RESERVE_H_

#include <cstddef>

#include "absl/status/status.h"
#include "agent/runtime/runtime.h"

namespace reprise {

// Eight pieces, each more than what malloc asks the system for at once. Nobody
// touches them, so they take address space and no memory.
inline constexpr size_t kMemoryReserveBytes = size_t{16} << 20;

// Sets the reserve aside and installs a `std::new_handler` that gives it back.
// A program that has a handler of its own keeps it, and then there is no
// reserve. Only the first call does anything. Thread-safe.
void KeepMemoryReserve();

// Whether the reserve is whole, or there never was one. Takes back what is
// missing first, if there is memory again. Thread-safe, and cheap while nothing
// is missing.
bool IsMemoryReserveWhole();

// RESOURCE_EXHAUSTED while `runtime` has no memory to spare.
absl::Status CheckMemory(Runtime& runtime);

}  // namespace reprise

#endif  // REPRISE_AGENT_RUNTIME_MEMORY_RESERVE_H_

// A store in the memory of one process, for agents that all live in this
// process.
//
// Thread-safe. `Get` blocks on a condition variable of `runtime`, and
// deadlines are on its clock. A call whose deadline has passed on entry does
// nothing. The content dies with the last reference.

#ifndef REPRISE_AGENT_STORE_MEMORY_STORE_H_
#define REPRISE_AGENT_STORE_MEMORY_STORE_H_

#include <memory>

#include "agent/runtime/runtime.h"
#include "agent/store/store.h"

namespace reprise {

// `runtime` must outlive the store.
std::shared_ptr<Store> MakeMemoryStore(Runtime& runtime);

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_MEMORY_STORE_H_

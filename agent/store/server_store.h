// What the stores that have a server have in common.

#ifndef REPRISE_AGENT_STORE_SERVER_STORE_H_
#define REPRISE_AGENT_STORE_SERVER_STORE_H_

#include <cstddef>

namespace reprise {

// A longer value is INVALID_ARGUMENT, to set and to get: so much memory, and no
// more, can a server make us reserve.
inline constexpr size_t kMaxServerStoreValueBytes = size_t{64} << 20;

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_SERVER_STORE_H_

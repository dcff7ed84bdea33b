// A store in a Redis server (5 or later): for groups on many machines. It
// survives the death of any worker, and that of the server as far as the server
// was told to keep its data (`appendonly yes`).
//
// The URL is redis://[[user]:password@]host[:port][/database][?ttl=SECONDS];
// the port is 6379 and the database 0 where they are missing. With `ttl`, a key
// expires so long after it was last written, so what a group leaves behind goes
// away by itself. It must be longer than the group lives. There is no TLS, as
// Debian's hiredis has none, and no cluster: use one server.
//
// Thread-safe. A key is a Redis string of the same name, its value raw.
// `CompareSet` and `Add` are scripts, which Redis runs atomically. A call that
// waits polls, with pauses from 0.5 to 20 ms, and keeps no connection
// meanwhile; else a call has a connection of its own, of which up to 4 are kept
// for the next. Connections are not to be shared with a forked process.
//
// A server that was restarted is noticed before a call and does not fail it. If
// a connection breaks during a call, Get, TryGet and Set are made again on
// another one, as they can be repeated. CompareSet, Add and Delete return
// UNAVAILABLE and may have had their effect, as after DEADLINE_EXCEEDED. A
// server that cannot be reached, or that refuses for a while (it is loading,
// busy, read-only or full of clients), is UNAVAILABLE at once. A wrong password
// is UNAUTHENTICATED, a command that the user may not give PERMISSION_DENIED, a
// server without memory RESOURCE_EXHAUSTED, and a key that does not hold what
// the call needs INVALID_ARGUMENT. Other refusals are INTERNAL.

#ifndef REPRISE_AGENT_STORE_REDIS_STORE_H_
#define REPRISE_AGENT_STORE_REDIS_STORE_H_

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "agent/runtime/runtime.h"
#include "agent/store/store.h"

namespace reprise {

// Does not connect yet. `runtime`, a real one, must outlive the store;
// deadlines are on its clock. INVALID_ARGUMENT when `url` is not as above.
absl::StatusOr<std::shared_ptr<Store>> OpenRedisStore(Runtime& runtime,
                                                      std::string_view url);

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_REDIS_STORE_H_

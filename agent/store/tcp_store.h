// A client of PyTorch's TCPStore, for groups that PyTorch began. It needs a
// server, which PyTorch's rank 0 (or torchrun) runs, and which ends with that
// process.
//
// The URL is tcp://host:port[?protocol=1|2]. Protocol 1 is that of PyTorch
// 1.13, protocol 2 that of the versions 2.x that validate their clients. If the
// URL does not say which one the server speaks, the client finds out. If the
// URL names the wrong one, calls return FAILED_PRECONDITION after some three
// seconds. As PyTorch's own client does, this one puts a "/" before every key,
// so that both see the same keys.
//
// Thread-safe. Each call in progress has a connection of its own, of which up
// to 4 are kept for the next. Connections are not to be shared with a forked
// process. `Get` polls, with pauses from 0.5 to 20 ms, and keeps no connection
// meanwhile.
//
// If a connection breaks during a call, Get, TryGet and Set are made again on
// another one, as they can be repeated. CompareSet, Add and Delete return
// UNAVAILABLE and may have had their effect, as after DEADLINE_EXCEEDED.
//
// Counters are the server's: text that begins with a number counts as that
// number, and what overflows wraps around. At other text the server closes the
// connection; this client then reads the value and returns INVALID_ARGUMENT. A
// server of protocol 2 takes keys of up to 8 KiB, with the "/", and values of
// up to 8 MiB; longer ones are INVALID_ARGUMENT.

#ifndef REPRISE_AGENT_STORE_TCP_STORE_H_
#define REPRISE_AGENT_STORE_TCP_STORE_H_

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "agent/runtime/runtime.h"
#include "agent/store/store.h"

namespace reprise {

// Does not connect yet. `runtime`, a real one, must outlive the store;
// deadlines are on its clock. INVALID_ARGUMENT when `url` is not as above.
absl::StatusOr<std::shared_ptr<Store>> OpenTcpStore(Runtime& runtime,
                                                    std::string_view url);

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_TCP_STORE_H_

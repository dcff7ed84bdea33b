// Opens a store by its URL, as it comes from a flag or the environment.

#ifndef REPRISE_AGENT_STORE_OPEN_STORE_H_
#define REPRISE_AGENT_STORE_OPEN_STORE_H_

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "agent/runtime/runtime.h"
#include "agent/store/store.h"

namespace reprise {

// `url` is one of
//   memory://          a new, empty store of this process;
//   file:///directory  a file store; the path is taken as it is, with no
//                      percent-decoding;
//   c10d-file:///file  a file of PyTorch's FileStore; the path as above, see
//                      c10d_file_store.h;
//   redis://[[user]:password@]host[:port][/database][?ttl=SECONDS]
//                      a Redis server, see redis_store.h;
//   tcp://host:port[?protocol=1|2]
//                      a TCPStore of PyTorch or of ours, see tcp_store.h;
//   etcd://host[:port][,host[:port]...][/prefix]
//                      a cluster of etcd, see etcd_store.h.
// Anything else is INVALID_ARGUMENT, with this list in its text. No text has
// the password. It does not connect to a server yet. `runtime` must outlive the
// store, and be the real one for those that have a server and for files.
absl::StatusOr<std::shared_ptr<Store>> OpenStore(Runtime& runtime,
                                                 std::string_view url);

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_OPEN_STORE_H_

// PyTorch's `FileStore` (torch.distributed, `init_method="file:///..."`): one
// file, in PyTorch's own format, so that stock workers and ours can meet there.
//
// The file is a log. Each record is a key and a value, each a u32 of the
// machine's byte order and that many bytes. A later record of a key replaces
// the earlier ones. Keys of users begin with '/'. The key "-/k" with an empty
// value deletes "/k". Others ("cleanup/", "refcount/") are PyTorch's books of
// who removes the file, and are skipped. Readers hold flock(2) on the file
// shared, writers exclusive. Seen with 1.13.1.
//
// Each change makes the file longer, and nothing makes it shorter. The store
// reads each record once. The last of the stock workers removes the file if all
// workers are stock ones; ours do not count.
//
// A record that a dead writer left half written makes the file useless, to
// PyTorch's workers too: FAILED_PRECONDITION, as for what is no file of this
// format. A record of ours is written by one system call.
//
// Thread-safe; nothing is kept open between calls. `Get` polls, as in
// file_store.h, whose limits and codes of errors hold here too.

#ifndef REPRISE_AGENT_STORE_C10D_FILE_STORE_H_
#define REPRISE_AGENT_STORE_C10D_FILE_STORE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "agent/runtime/runtime.h"
#include "agent/store/store.h"

namespace reprise {

// The file is made by the first call, if it is not there; its directory must
// be. `runtime` must outlive the store; deadlines are on its clock.
absl::StatusOr<std::shared_ptr<Store>> OpenC10dFileStore(
    Runtime& runtime, const std::string& path);

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_C10D_FILE_STORE_H_

// A store in a directory, for processes on one machine. It needs no server and
// survives a process that is killed at any instruction.
//
// The directory holds
//   key-<name>   the value of one key, raw (see file_key.h);
//   tmp-<pid>-<n>   a value being written; it becomes a key by rename, so a
//                reader sees a whole value, the old or the new;
//   lock         every change is made under flock(2) on it. The kernel releases
//                the lock when its holder dies.
// A value that a dead writer left half written is never read; the next
// `OpenFileStore` removes it.
//
// Thread-safe, and several stores may be open on one directory in a process.
// Nothing is kept open between calls, so a store may be used after `fork`.
// `Get` polls: it sees a value up to 10 ms after it was set. A locked store is
// polled in the same way until the deadline; a system call itself (a disk that
// hangs) cannot be bounded. A call whose deadline has passed on entry does
// nothing.
//
// It is not for data that must survive a crash of the machine, as nothing is
// synced to disk, and not for several machines over a network file system.
//
// Errors of the file system have the path in their text: UNAVAILABLE when the
// directory has gone and for want of file descriptors or memory, else the code
// that `absl::ErrnoToStatusCode` gives, as RESOURCE_EXHAUSTED for a full disk.
// After an error the key has its old value.

#ifndef REPRISE_AGENT_STORE_FILE_STORE_H_
#define REPRISE_AGENT_STORE_FILE_STORE_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "agent/runtime/runtime.h"
#include "agent/store/store.h"

namespace reprise {

// A longer value is INVALID_ARGUMENT, both to set and to get.
inline constexpr size_t kMaxFileStoreValueBytes = size_t{64} << 20;

// Creates `directory` and its parents if they are missing. `runtime` must
// outlive the store; deadlines are on its clock.
absl::StatusOr<std::shared_ptr<Store>> OpenFileStore(
    Runtime& runtime, const std::string& directory);

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_FILE_STORE_H_

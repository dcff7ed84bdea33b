// The disk seam: the files that a service keeps, such as checkpoints. An agent
// itself keeps none.
//
// `MakeFolderDisk` maps it to a folder, a simulated world to a disk that may be
// full or slow, lose what was not synced, and fail to sync. What a service may
// rely on is what POSIX promises of a file system, and no more:
//
//  * The end of a process, however sudden, loses nothing for which a call has
//    returned. A file that was being written has a first part of the bytes.
//  * A power cut, or the end of the machine, may lose whatever was not synced.
//    Of the bytes that were written to a file since its last `Sync` any
//    512-byte sectors may be there, the earlier bytes or zeros in the others,
//    and the file may have its earlier size. Of the creations, renames and
//    removals since the last `SyncNames` a first part is there. The two know
//    nothing of each other: a file may have its new name and not its new bytes.
//
// `ReplaceFile` is what most services want.
//
// Names are those of files in one folder: letters, digits, '.', '_', '-', at
// most 200 of them, and neither "." nor "..". Calls block, with no deadline, as
// those of an operating system do. Errors: INVALID_ARGUMENT for such a name,
// NOT_FOUND for a file that is not there, RESOURCE_EXHAUSTED when the disk, a
// quota or a limit is full, UNAVAILABLE for whatever else fails.

#ifndef REPRISE_AGENT_DISK_DISK_H_
#define REPRISE_AGENT_DISK_DISK_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace reprise {

// Thread-safe. Two calls that change one file at a time need a lock of the
// service's.
class Disk {
 public:
  virtual ~Disk() = default;

  // The whole content of the file.
  virtual absl::StatusOr<std::string> Read(std::string_view name) = 0;
  // Makes `bytes` the content of the file, and creates it if it is not there.
  // After an error the file has any first part of `bytes`.
  virtual absl::Status Write(std::string_view name, std::string_view bytes) = 0;
  // Writes `bytes` behind the content; otherwise as `Write`.
  virtual absl::Status Append(std::string_view name,
                              std::string_view bytes) = 0;
  // Makes the content of the file durable. After an error nothing is known of
  // what was written since the last sync, and a later sync that succeeds says
  // nothing of it, not even of what was appended meanwhile: give the file its
  // whole content again, by `Write`, or another file.
  virtual absl::Status Sync(std::string_view name) = 0;
  // Renames a file, at one instant. A file that had the name `to` is gone.
  virtual absl::Status Rename(std::string_view from, std::string_view to) = 0;
  virtual absl::Status Remove(std::string_view name) = 0;
  // Makes creations, renames and removals durable.
  virtual absl::Status SyncNames() = 0;
  // The names of all files, sorted.
  virtual absl::StatusOr<std::vector<std::string>> List() = 0;
};

// Replaces a file as a whole, durably. After OK it has `bytes`, whatever
// happens then. After an error, the end of the process or a power cut it has
// either its earlier content, or is not there if it was not, or has `bytes`.
// Uses the file `name` + ".new". One call for a file at a time. After a restart
// of the process the file may have `bytes` that are not durable yet: before a
// service answers for what it has read, it calls `SyncNames`.
absl::Status ReplaceFile(Disk& disk, std::string_view name,
                         std::string_view bytes);

}  // namespace reprise

#endif  // REPRISE_AGENT_DISK_DISK_H_

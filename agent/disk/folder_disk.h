// A disk that is a folder of this machine.

#ifndef REPRISE_AGENT_DISK_FOLDER_DISK_H_
#define REPRISE_AGENT_DISK_FOLDER_DISK_H_

#include <cstddef>
#include <memory>
#include <string>

#include "agent/disk/disk.h"

namespace reprise {

inline constexpr size_t kMaxFileBytes = size_t{4} << 30;

// The first write makes the folder, and those above it, if it is not there.
// Nothing is open between two calls. So an error of the medium that the kernel
// meets between a write and its sync, and has forgotten by the sync, is not
// seen. Whatever else lies in the folder is left
// alone, but a regular file with a name that a `Disk` may use is one of the
// disk's. Symbolic links are not followed. A file of more than `max_file_bytes`
// cannot be read (RESOURCE_EXHAUSTED).
std::unique_ptr<Disk> MakeFolderDisk(const std::string& folder,
                                     size_t max_file_bytes = kMaxFileBytes);

}  // namespace reprise

#endif  // REPRISE_AGENT_DISK_FOLDER_DISK_H_

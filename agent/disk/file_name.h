// The names that files of a disk can have (disk.h).

#ifndef REPRISE_AGENT_DISK_FILE_NAME_H_
#define REPRISE_AGENT_DISK_FILE_NAME_H_

#include <string_view>

#include "absl/status/status.h"

namespace reprise {

// INVALID_ARGUMENT if no file can have the name.
absl::Status CheckFileName(std::string_view name);

}  // namespace reprise

#endif  // REPRISE_AGENT_DISK_FILE_NAME_H_

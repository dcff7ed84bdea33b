// A temporary directory that is removed, with its content, with the object.

#ifndef REPRISE_TOOLS_PROCESSES_SCRATCH_DIRECTORY_H_
#define REPRISE_TOOLS_PROCESSES_SCRATCH_DIRECTORY_H_

#include <errno.h>
#include <stdlib.h>

#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace reprise {

class ScratchDirectory {
 public:
  // Makes it in $TMPDIR, or in /tmp if that is not set.
  static absl::StatusOr<ScratchDirectory> Make() {
    const char* const parent = getenv("TMPDIR");
    std::string path =
        absl::StrCat(parent == nullptr || *parent == '\0' ? "/tmp" : parent,
                     "/reprise-XXXXXX");
    if (mkdtemp(path.data()) == nullptr) {
      return absl::ErrnoToStatus(
          errno, absl::StrCat("cannot make the directory ", path));
    }
    return ScratchDirectory(std::move(path));
  }

  ScratchDirectory(ScratchDirectory&& other) noexcept
      : path_(std::exchange(other.path_, {})) {}
  ScratchDirectory& operator=(ScratchDirectory&&) = delete;
  ~ScratchDirectory() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }

 private:
  explicit ScratchDirectory(std::string path) : path_(std::move(path)) {}

  std::string path_;
};

}  // namespace reprise

#endif  // REPRISE_TOOLS_PROCESSES_SCRATCH_DIRECTORY_H_

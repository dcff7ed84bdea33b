// A temporary directory that is removed, with its content, with the object.
// Not thread-safe.

#ifndef REPRISE_SIM_SCENARIO_SCRATCH_DIRECTORY_H_
#define REPRISE_SIM_SCENARIO_SCRATCH_DIRECTORY_H_

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
  ~ScratchDirectory() { Remove(); }

  const std::string& path() const { return path_; }

  bool empty() const {
    std::error_code ignored;
    return std::filesystem::is_empty(path_, ignored);
  }

  // Makes the directory `name` in it if it is not there yet, and returns its
  // path.
  absl::StatusOr<std::string> MakeWithin(const std::string& name) const {
    std::string path = path_ + "/" + name;
    std::error_code error;
    std::filesystem::create_directories(path, error);
    if (!error) return path;
    return absl::UnavailableError(absl::StrCat("cannot make the directory ",
                                               path, ": ", error.message()));
  }

  // Removes it now.
  void Remove() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
    path_.clear();
  }

  // From now on it stays. Returns its path.
  std::string Keep() && { return std::exchange(path_, {}); }

 private:
  explicit ScratchDirectory(std::string path) : path_(std::move(path)) {}

  std::string path_;
};

}  // namespace reprise

#endif  // REPRISE_SIM_SCENARIO_SCRATCH_DIRECTORY_H_

// A temporary directory for a test.

#ifndef REPRISE_TESTS_UNIT_STORE_TEMPORARY_DIRECTORY_H_
#define REPRISE_TESTS_UNIT_STORE_TEMPORARY_DIRECTORY_H_

#include <stdlib.h>

#include <filesystem>
#include <string>
#include <system_error>

#include "gtest/gtest.h"

namespace reprise {

// It is empty at first. The destructor removes it with its content.
class TemporaryDirectory {
 public:
  TemporaryDirectory() : path_(testing::TempDir() + "/store-XXXXXX") {
    if (mkdtemp(path_.data()) == nullptr) {
      ADD_FAILURE() << "cannot make " << path_;
    }
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace reprise

#endif  // REPRISE_TESTS_UNIT_STORE_TEMPORARY_DIRECTORY_H_

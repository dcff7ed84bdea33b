// The records of a file of PyTorch's `FileStore` (c10d_file_store.h).

#ifndef REPRISE_AGENT_STORE_C10D_FILE_LOG_H_
#define REPRISE_AGENT_STORE_C10D_FILE_LOG_H_

#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace reprise {

// The bytes of a record: `prefix` and `key`, and the value.
std::string C10dFileRecord(std::string_view prefix, std::string_view key,
                           std::string_view value);

inline constexpr std::string_view kC10dKeyPrefix = "/";
inline constexpr std::string_view kC10dDeletedPrefix = "-/";

// What the records so far say. Thread-compatible.
class C10dFileLog {
 public:
  // Takes whole records that follow those before. FAILED_PRECONDITION, with
  // where it is, for anything else, after which this object is of no use.
  absl::Status Read(std::string_view records);

  // The value of a user's key.
  std::optional<std::string> Find(std::string_view key) const;

  // How much was read.
  size_t num_bytes() const { return num_bytes_; }

 private:
  std::map<std::string, std::string, std::less<>> values_;  // with prefix
  size_t num_bytes_ = 0;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_C10D_FILE_LOG_H_

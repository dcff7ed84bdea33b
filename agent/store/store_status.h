// What the kinds of `Store` have in common: their error texts and the
// arithmetic of counters. Pure functions.

#ifndef REPRISE_AGENT_STORE_STORE_STATUS_H_
#define REPRISE_AGENT_STORE_STORE_STATUS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace reprise {

// `key` in quotes, escaped and cut to a length that fits a log line.
std::string PrintableKey(std::string_view key);

// `call` is the name of the method, as in "Get".
absl::Status StoreDeadlineExceeded(std::string_view call, std::string_view key);

// For an `errno` value of a file store, as in "cannot open <path>": UNAVAILABLE
// when the file has gone and for want of descriptors or memory, else the code
// that absl::ErrnoToStatusCode gives.
absl::Status FileError(int error_number, std::string_view action,
                       const std::string& path);

// The absolute form of `path`, since the process may change its directory
// later. INVALID_ARGUMENT when it cannot be the name of `what`, a file or a
// directory.
absl::StatusOr<std::string> AbsolutePath(const std::string& path,
                                         std::string_view what);

// The sum of the counter `value` (decimal ASCII, nothing around it) and
// `delta`. INVALID_ARGUMENT when `value` is not such a number or the sum
// overflows; `where` then names the counter.
absl::StatusOr<int64_t> AddToCounter(std::string_view value, int64_t delta,
                                     std::string_view where);

// The status of a result that is a Status or a StatusOr.
inline const absl::Status& StatusOf(const absl::Status& status) {
  return status;
}
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_STORE_STATUS_H_

#include "agent/store/store_status.h"

#include <errno.h>

#include <charconv>
#include <filesystem>
#include <system_error>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

constexpr size_t kMaxPrintedBytes = 100;

// absl's own string_view is not std's everywhere.
std::string Escaped(std::string_view bytes) {
  const bool cut = bytes.size() > kMaxPrintedBytes;
  const std::string shown(bytes.substr(0, kMaxPrintedBytes));
  return absl::StrCat("\"", absl::CHexEscape(shown), cut ? "\"..." : "\"");
}

}  // namespace

std::string PrintableKey(std::string_view key) { return Escaped(key); }

absl::Status FileError(int error_number, std::string_view action,
                       const std::string& path) {
  absl::Status status = absl::ErrnoToStatus(
      error_number,
      absl::StrCat("file store: cannot ", std::string(action), " ", path));
  // The first two mean something else to the callers of a store, and the others
  // pass.
  if (absl::IsNotFound(status) || absl::IsDeadlineExceeded(status) ||
      error_number == EMFILE || error_number == ENFILE ||
      error_number == ENOMEM) {
    return absl::UnavailableError(status.message());
  }
  return status;
}

absl::Status StoreDeadlineExceeded(std::string_view call,
                                   std::string_view key) {
  return absl::DeadlineExceededError(
      absl::StrCat("store: ", std::string(call), " of key ", PrintableKey(key),
                   " did not finish before its deadline"));
}

absl::StatusOr<std::string> AbsolutePath(const std::string& path,
                                         std::string_view what) {
  if (path.empty() || path.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("file store: not the name of a ", std::string(what), ": ",
                     PrintableKey(path)));
  }
  std::error_code error;
  std::string absolute = std::filesystem::absolute(path, error).string();
  if (!error) return absolute;
  return absl::UnavailableError(
      absl::StrCat("file store: cannot find the working directory for ", path,
                   ": ", error.message()));
}

absl::StatusOr<int64_t> AddToCounter(std::string_view value, int64_t delta,
                                     std::string_view where) {
  int64_t number = 0;
  const char* const end = value.data() + value.size();
  const auto [rest, error] = std::from_chars(value.data(), end, number);
  if (error != std::errc() || rest != end) {
    return absl::InvalidArgumentError(
        absl::StrCat("store: ", std::string(where),
                     " is not a decimal counter: ", Escaped(value)));
  }
  int64_t sum = 0;
  if (__builtin_add_overflow(number, delta, &sum)) {
    return absl::InvalidArgumentError(
        absl::StrCat("store: ", std::string(where), " would overflow: ", number,
                     " + ", delta));
  }
  return sum;
}

}  // namespace reprise

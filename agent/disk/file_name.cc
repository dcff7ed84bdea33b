#include "agent/disk/file_name.h"

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

constexpr size_t kMaxNameBytes = 200;

bool MayBeInName(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' ||
         c == '_' || c == '-';
}

}  // namespace

absl::Status CheckFileName(std::string_view name) {
  bool is_good = !name.empty() && name.size() <= kMaxNameBytes && name != "." &&
                 name != "..";
  for (const char c : name) is_good = is_good && MayBeInName(c);
  if (is_good) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "'", std::string(name.substr(0, kMaxNameBytes)),
      "' cannot be a file's name: it must have 1 to ", kMaxNameBytes,
      " letters, digits, '.', '_' and '-', and be neither '.' nor '..'"));
}

}  // namespace reprise

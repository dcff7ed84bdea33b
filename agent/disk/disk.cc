#include "agent/disk/disk.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "agent/planted.h"

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

absl::Status ReplaceFile(Disk& disk, std::string_view name,
                         std::string_view bytes) {
  if (absl::Status status = CheckFileName(name); !status.ok()) return status;
  const std::string next = absl::StrCat(std::string(name), ".new");
  if (REPRISE_PLANTED(replaced_in_place)) {
    const absl::Status status = disk.Write(name, bytes);
    return status.ok() ? disk.Sync(name) : status;
  }
  if (absl::Status status = disk.Write(next, bytes); !status.ok()) {
    return status;
  }
  // The name must not be there before the bytes are.
  if (!REPRISE_PLANTED(renamed_before_sync)) {
    absl::Status status = disk.Sync(next);
    if (REPRISE_PLANTED(sync_tried_again) && !status.ok()) {
      status = disk.Sync(next);
    }
    if (!status.ok()) return status;
  }
  if (absl::Status status = disk.Rename(next, name); !status.ok()) {
    return status;
  }
  return REPRISE_PLANTED(names_not_synced) ? absl::OkStatus()
                                           : disk.SyncNames();
}

}  // namespace reprise

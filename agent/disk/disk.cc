#include "agent/disk/disk.h"

#include "absl/strings/str_cat.h"
#include "agent/disk/file_name.h"
#include "agent/planted.h"

namespace reprise {

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

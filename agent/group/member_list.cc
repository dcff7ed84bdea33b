#include "agent/group/member_list.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "agent/group/worker_directory.h"
#include "agent/planted.h"

namespace reprise {
namespace {

constexpr absl::string_view kFormat = "members-1";

bool ParseId(absl::string_view text, WorkerId& id) {
  int32_t number = -1;
  if (!absl::SimpleAtoi(text, &number) || number < 0 ||
      number > std::numeric_limits<WorkerId>::max()) {
    return false;
  }
  id = static_cast<WorkerId>(number);
  return true;
}

using Fields = std::array<absl::string_view, 5>;

// Returns how many fields there are, at most one more than `fields` holds.
size_t Split(absl::string_view row, Fields& fields) {
  for (size_t i = 0; i < fields.size(); ++i) {
    const size_t end = row.find(' ');
    fields[i] = row.substr(0, end);
    if (end == row.npos) return i + 1;
    row.remove_prefix(end + 1);
  }
  return fields.size() + 1;
}

template <typename T>
bool HasTwins(std::vector<T>& items) {
  std::sort(items.begin(), items.end());
  return std::adjacent_find(items.begin(), items.end()) != items.end();
}

absl::Status Unreadable(int line) {
  return absl::InvalidArgumentError(
      absl::StrCat("the store's list of members, ",
                   absl::string_view(kMembersKey.data(), kMembersKey.size()),
                   ", cannot be read at line ", line));
}

}  // namespace

std::string Format(const MemberList& list) {
  std::string text = absl::StrCat(kFormat, " ", list.version, "\n");
  for (const MemberEntry& entry : list.members) {
    absl::StrAppend(&text, entry.worker.id, " ", entry.worker.name, " ",
                    entry.incarnation, " ", entry.has_devices ? "d" : "-", " ",
                    entry.address, "\n");
  }
  return text;
}

absl::StatusOr<MemberList> ParseMemberList(std::string_view text) {
  MemberList list;
  if (text.empty()) return list;
  std::vector<WorkerId> ids;
  std::vector<absl::string_view> names;
  int line = 0;
  for (const absl::string_view row :
       absl::StrSplit(absl::string_view(text.data(), text.size()), '\n')) {
    Fields fields;
    const size_t num_fields = Split(row, fields);
    if (line++ == 0) {
      if (num_fields != 2 || fields[0] != kFormat ||
          !absl::SimpleAtoi(fields[1], &list.version) || list.version < 0 ||
          list.version == std::numeric_limits<int64_t>::max()) {
        return Unreadable(line);
      }
      continue;
    }
    if (row.empty()) continue;
    MemberEntry entry;
    if (num_fields != fields.size() || !ParseId(fields[0], entry.worker.id) ||
        !absl::SimpleAtoi(fields[2], &entry.incarnation) ||
        entry.incarnation < 1) {
      return Unreadable(line);
    }
    entry.worker.name = std::string(fields[1]);
    entry.has_devices = fields[3] == "d";
    entry.address = std::string(fields[4]);
    if (!IsWorkerName(entry.worker.name)) return Unreadable(line);
    ids.push_back(entry.worker.id);
    names.push_back(fields[1]);
    list.members.push_back(std::move(entry));
  }
  if (HasTwins(ids) || HasTwins(names)) return Unreadable(line);
  return list;
}

std::vector<WorkerInfo> ParseStockMembers(std::string_view text) {
  std::vector<WorkerInfo> members;
  for (const absl::string_view item :
       absl::StrSplit(absl::string_view(text.data(), text.size()), ',',
                      absl::SkipEmpty())) {
    const size_t dash = item.rfind('-');
    if (dash == item.npos) continue;
    WorkerInfo worker;
    worker.name = std::string(item.substr(0, dash));
    if (!IsWorkerName(worker.name) ||
        !ParseId(item.substr(dash + 1), worker.id)) {
      continue;
    }
    members.push_back(std::move(worker));
  }
  return members;
}

std::string FormatStock(const std::vector<WorkerInfo>& members) {
  std::string text;
  for (const WorkerInfo& worker : members) {
    absl::StrAppend(&text, worker.name, "-", worker.id, ",");
  }
  return text;
}

bool CanBeInStockList(const std::string& name) {
  return name.find('-') == name.npos;
}

}  // namespace reprise

// The part of dynamic_group.h that reads the group from its lists.

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "agent/group/dynamic_group.h"
#include "agent/planted.h"
#include "glog/logging.h"

namespace reprise {
namespace {

// Whether PyTorch's parser of this list would throw, for the planted defect
// `dash_in_name`.
bool StockParserThrows(const std::string& text) {
  for (const absl::string_view item :
       absl::StrSplit(text, ',', absl::SkipEmpty())) {
    const size_t dash = item.find('-');
    if (dash != item.npos && item.find('-', dash + 1) != item.npos) return true;
  }
  return false;
}

}  // namespace

absl::StatusOr<DynamicGroup::Texts> DynamicGroup::Read(absl::Time deadline) {
  Texts texts;
  for (auto& [key, text] :
       {std::pair<std::string_view, std::string*>(kMembersKey, &texts.members),
        {kStockMembersKey, &texts.stock}}) {
    absl::StatusOr<std::string> value = store_.TryGet(key, deadline);
    if (value.ok()) {
      *text = *std::move(value);
    } else if (!absl::IsNotFound(value.status())) {
      return value.status();
    }
  }
  return texts;
}

absl::StatusOr<DynamicGroup::GroupState> DynamicGroup::ParseState(Texts texts) {
  absl::StatusOr<MemberList> members = ParseMemberList(texts.members);
  if (!members.ok()) return members.status();
  if (REPRISE_PLANTED(dash_in_name) && StockParserThrows(texts.stock)) {
    return absl::InvalidArgumentError("stoi");
  }
  GroupState state;
  state.members = *std::move(members);
  state.stock = ParseStockMembers(texts.stock);
  state.texts = std::move(texts);
  return state;
}

absl::StatusOr<DynamicGroup::GroupState> DynamicGroup::ReadState(
    absl::Time deadline) {
  absl::StatusOr<Texts> texts = Read(deadline);
  if (texts.ok()) texts = ReadConsistent(*std::move(texts), deadline);
  if (!texts.ok()) return texts.status();
  return ParseState(*std::move(texts));
}

absl::StatusOr<DynamicGroup::Texts> DynamicGroup::ReadConsistent(
    Texts texts, absl::Time deadline) {
  do {
    absl::StatusOr<GroupState> state = ParseState(texts);
    if (!state.ok()) return state.status();
    const size_t num_ours = state->members.members.size();
    // A member of our list enters it before the stock list and leaves it after.
    // So workers in the stock list alone are stock workers, or they joined or
    // left between the two reads.
    if (Merge(*std::move(state)).size() == num_ours) return texts;
    absl::StatusOr<Texts> again = Read(deadline);
    if (!again.ok()) return again.status();
    if (again->members == texts.members) return texts;
    texts = *std::move(again);
  } while (runtime_.Now() < deadline);
  return absl::DeadlineExceededError(
      "the group changes faster than its lists can be read");
}

std::vector<MemberEntry> DynamicGroup::Merge(GroupState state) {
  std::vector<MemberEntry> all = std::move(state.members.members);
  // Members write the list in this order, but others may not.
  if (!std::is_sorted(all.begin(), all.end(), MemberEntry::IsById)) {
    std::sort(all.begin(), all.end(), MemberEntry::IsById);
  }
  const size_t num_ours = all.size();
  for (WorkerInfo& worker : state.stock) {
    const auto begin = all.begin();
    const auto end = begin + static_cast<std::ptrdiff_t>(num_ours);
    const auto found = std::lower_bound(
        begin, end, worker.id, [](const MemberEntry& entry, WorkerId id) {
          return entry.worker.id < id;
        });
    const bool is_known =
        (found != end && found->worker.id == worker.id) ||
        std::any_of(all.begin(), all.end(), [&](const MemberEntry& entry) {
          return entry.worker.name == worker.name ||
                 entry.worker.id == worker.id;
        });
    if (!is_known) all.push_back({std::move(worker), 0, false, ""});
  }
  if (all.size() > num_ours)
    std::sort(all.begin(), all.end(), MemberEntry::IsById);
  return all;
}

absl::StatusOr<std::vector<MemberEntry>> DynamicGroup::Parse(
    const Texts& texts) {
  absl::StatusOr<GroupState> state = ParseState(texts);
  if (!state.ok()) return state.status();
  return Merge(*std::move(state));
}

absl::StatusOr<DeviceInfo> DynamicGroup::ReadDevices(const MemberEntry& entry,
                                                     absl::Time deadline) {
  if (!entry.has_devices) return DeviceInfo();
  const absl::StatusOr<std::string> text =
      store_.TryGet(DevicesKey(entry), deadline);
  if (!text.ok()) return text.status();
  absl::StatusOr<DeviceInfo> info = ParseDeviceInfo(*text);
  if (info.ok()) return info;
  LOG(WARNING) << entry.worker.name << ": " << info.status().message();
  return DeviceInfo();
}

std::string DynamicGroup::DevicesKey(const MemberEntry& entry) {
  return absl::StrCat("reprise/devices/", entry.worker.name, "/",
                      entry.incarnation);
}

}  // namespace reprise

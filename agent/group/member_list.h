// The members of a dynamic group, as they stand in the store.
//
// `reprise/members` holds all that joined with this agent, in one value that is
// replaced by compare-and-set: a join or a leave happens at one instant or not
// at all, and each has a number, one higher than the one before. PyTorch's own
// list, `names/_ALL_WORKER_INFOS`, is kept beside it for its workers, and
// theirs are read from it.

#ifndef REPRISE_AGENT_GROUP_MEMBER_LIST_H_
#define REPRISE_AGENT_GROUP_MEMBER_LIST_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/worker_info.h"

namespace reprise {

inline constexpr std::string_view kMembersKey = "reprise/members";
inline constexpr std::string_view kStockMembersKey = "names/_ALL_WORKER_INFOS";

struct MemberEntry {
  WorkerInfo worker;
  int64_t incarnation = 0;  // the number of its join; 0: PyTorch's own agent
  bool has_devices = false;
  std::string address;  // where it listened when it joined
  friend bool operator==(const MemberEntry&, const MemberEntry&) = default;
  // The order of a list.
  static bool IsById(const MemberEntry& a, const MemberEntry& b) {
    return a.worker.id < b.worker.id;
  }
};

struct MemberList {
  int64_t version = 0;  // joins and leaves so far
  std::vector<MemberEntry> members;
};

std::string Format(const MemberList& list);
// An empty text is an empty list. INVALID_ARGUMENT for anything that `Format`
// does not write, and for names or ids that are there twice.
absl::StatusOr<MemberList> ParseMemberList(std::string_view text);

// Parses "w0-0,w1-1,". A name may contain '-'. Text that is not an entry is
// skipped.
std::vector<WorkerInfo> ParseStockMembers(std::string_view text);
std::string FormatStock(const std::vector<WorkerInfo>& members);
// Whether PyTorch's workers can read it: they cut at the first '-'.
bool CanBeInStockList(const std::string& name);

}  // namespace reprise

#endif  // REPRISE_AGENT_GROUP_MEMBER_LIST_H_

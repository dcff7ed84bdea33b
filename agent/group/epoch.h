// The present epoch of a static group (static_group.h) as the store has it in
// `reprise/epoch`. Pure functions.

#ifndef REPRISE_AGENT_GROUP_EPOCH_H_
#define REPRISE_AGENT_GROUP_EPOCH_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"

namespace reprise {

inline constexpr std::string_view kEpochKey = "reprise/epoch";

struct Epoch {
  std::string text;  // in the store
  std::string name;  // "<id of the member that began it>-<anything>"
  bool complete = false;
  std::string before;  // while it forms: the last complete epoch, or ""
};

// INVALID_ARGUMENT for a text that `FormingText` or `CompleteText` does not
// write.
absl::StatusOr<Epoch> ParseEpoch(std::string text);
std::string FormingText(std::string_view name, std::string_view before);
// `change` is "" when the epoch was completed, and later a text that was not
// there before.
std::string CompleteText(std::string_view name, std::string_view change);

// The member that began it; 0 if the name does not say.
int64_t FounderOf(const std::string& epoch_name);

// The instance and the address of a member, "<instance> <address>".
std::pair<std::string, std::string> SplitMark(const std::string& mark);

}  // namespace reprise

#endif  // REPRISE_AGENT_GROUP_EPOCH_H_

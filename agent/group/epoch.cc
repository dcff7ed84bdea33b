#include "agent/group/epoch.h"

#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace reprise {
namespace {

constexpr std::string_view kForming = "forming";
constexpr std::string_view kComplete = "complete";
constexpr std::string_view kNone = "-";
constexpr size_t kMaxPrinted = 200;

std::string EpochText(std::string_view name, std::string_view state,
                      std::string_view other) {
  std::string text(name);
  text.append(" ").append(state).append(" ");
  return text.append(other.empty() ? kNone : other);
}

}  // namespace

absl::StatusOr<Epoch> ParseEpoch(std::string text) {
  Epoch epoch;
  const std::vector<std::string> words = absl::StrSplit(text, ' ');
  if (words.size() != 3 || words[0].empty() ||
      (words[1] != kForming && words[1] != kComplete)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the store has no epoch in ", std::string(kEpochKey), ": '",
        absl::CHexEscape(text.substr(0, kMaxPrinted)), "'"));
  }
  epoch.name = words[0];
  epoch.complete = words[1] == kComplete;
  if (!epoch.complete && words[2] != kNone) epoch.before = words[2];
  epoch.text = std::move(text);
  return epoch;
}

std::string FormingText(std::string_view name, std::string_view before) {
  return EpochText(name, kForming, before);
}

std::string CompleteText(std::string_view name, std::string_view change) {
  return EpochText(name, kComplete, change);
}

int64_t FounderOf(const std::string& epoch_name) {
  int64_t id = 0;
  const std::string number = epoch_name.substr(0, epoch_name.find('-'));
  return absl::SimpleAtoi(number, &id) ? id : 0;
}

std::pair<std::string, std::string> SplitMark(const std::string& mark) {
  const size_t blank = mark.find(' ');
  if (blank == mark.npos) return {mark, ""};
  return {mark.substr(0, blank), mark.substr(blank + 1)};
}

}  // namespace reprise

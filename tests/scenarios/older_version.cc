#include "tests/scenarios/older_version.h"

#include <array>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace reprise::scenarios {
namespace {

// In the order in which they were added.
constexpr std::array<std::string_view, kNumVersions - 1> kWords = {
    "deadline", "cancel", "keepalive", "idempotency", "progress",
    "memory",   "epoch",  "reply-id",  "way-back"};

}  // namespace

std::set<std::string, std::less<>> WordsOfVersion(int64_t version) {
  std::set<std::string, std::less<>> words;
  for (size_t i = 0; i < kWords.size() && static_cast<int64_t>(i) < version;
       ++i) {
    words.emplace(kWords[i]);
  }
  return words;
}

std::string OlderFeatures(std::string_view value,
                          const std::set<std::string, std::less<>>& known) {
  std::string older;
  for (const absl::string_view word :
       absl::StrSplit(absl::string_view(value.data(), value.size()), ' ')) {
    // The first is the version of the list. One word has a value of its own.
    const std::string name(word.substr(0, word.find('=')));
    if (older.empty() || known.contains(name)) {
      absl::StrAppend(&older, older.empty() ? "" : " ", word);
    }
  }
  return older;
}

std::string OlderStore::Understood(std::string_view key,
                                   std::string_view value) const {
  // It may have the prefix of a view of the store.
  const absl::string_view whole(key.data(), key.size());
  return absl::StrContains(whole, "reprise/features/")
             ? OlderFeatures(value, known_)
             : std::string(value);
}

}  // namespace reprise::scenarios

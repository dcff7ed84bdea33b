#include "sim/explore/recording_variants.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <numeric>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "sim/random.h"

namespace reprise {
namespace {

// How far counts and numbers are moved.
constexpr int64_t kMaxShift = 3;
// Decisions are moved and dropped alone up to this number, and beyond it in
// parts of as many.
constexpr size_t kMaxAlone = 64;
// Labels that are tried for one that is gone.
constexpr size_t kMaxCandidates = 3;

// A site's label: "thread [section] place", or "owner place".
struct SiteParts {
  std::string owner;
  std::string section;  // with its brackets; empty outside of threads
  std::string place;

  std::string Join() const {
    return section.empty() ? absl::StrCat(owner, " ", place)
                           : absl::StrCat(owner, " ", section, " ", place);
  }
};

SiteParts Split(const std::string& site) {
  const size_t open = site.find(" [");
  const size_t close = open == std::string::npos ? open : site.find("] ", open);
  if (close == std::string::npos) {
    const size_t blank = site.find(' ');
    if (blank == std::string::npos) return {site, "", ""};
    return {site.substr(0, blank), "", site.substr(blank + 1)};
  }
  return {site.substr(0, open), site.substr(open + 1, close - open),
          site.substr(close + 2)};
}

// "[call w2 5~2]" with its number moved; nothing if it has none, or if that
// would be below 0.
std::optional<std::string> MoveSection(const std::string& section, int64_t by) {
  const size_t blank = section.rfind(' ');
  if (blank == std::string::npos) return std::nullopt;
  int64_t number = 0;
  const char* const begin = section.data() + blank + 1;
  auto [rest, error] =
      std::from_chars(begin, section.data() + section.size(), number);
  if (error != std::errc() || number + by < 0) return std::nullopt;
  return absl::StrCat(
      section.substr(0, blank + 1), number + by,
      section.substr(static_cast<size_t>(rest - section.data())));
}

bool MoveCount(Decision& decision, int64_t by) {
  if (by < 0 && decision.count <= static_cast<uint64_t>(-by)) return false;
  decision.count += static_cast<uint64_t>(by);
  return true;
}

bool MoveSection(Decision& decision, int64_t by) {
  SiteParts parts = Split(decision.site);
  std::optional<std::string> moved = MoveSection(parts.section, by);
  if (!moved) return false;
  parts.section = *std::move(moved);
  decision.site = parts.Join();
  return true;
}

// The number of letters to change, add or take away.
size_t Distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t changed = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({changed, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

std::vector<std::string> MostLike(const std::string& label,
                                  const std::vector<std::string>& labels) {
  std::vector<std::pair<size_t, std::string>> by_distance;
  for (const std::string& other : labels) {
    by_distance.emplace_back(Distance(label, other), other);
  }
  std::sort(by_distance.begin(), by_distance.end());
  std::vector<std::string> most;
  for (const auto& [distance, other] : by_distance) {
    if (most.size() < kMaxCandidates) most.push_back(other);
  }
  return most;
}

class Maker {
 public:
  Maker(const std::vector<Decision>& decisions, const RunResult& plain)
      : decisions_(decisions), plain_(plain) {}

  std::vector<RecordingVariant> Make() {
    AddRenamed();
    for (int64_t distance = 1; distance <= kMaxShift; ++distance) {
      // A change more often adds a visit than takes one away.
      for (const int64_t by : {distance, -distance}) AddShifted(by);
    }
    AddDropped();
    return std::move(variants_);
  }

 private:
  using Change = std::function<bool(Decision&)>;

  // The variant in which `change` was made to all decisions for which it can
  // be made. Variants that change nothing, or that were made before, are left
  // out.
  void Add(std::string kind, std::string how, const Change& change) {
    std::vector<Decision> changed = decisions_;
    std::string text;
    bool is_changed = false;
    for (Decision& decision : changed) {
      is_changed = change(decision) || is_changed;
      absl::StrAppend(&text, decision.ToString(), "\n");
    }
    if (!is_changed || !seen_.insert(std::move(text)).second) return;
    variants_.push_back({std::move(kind), std::move(how), std::move(changed)});
  }

  void AddRenamed() {
    std::set<std::string> places;
    std::set<std::string> threads;
    for (const Decision& decision : decisions_) {
      const SiteParts parts = Split(decision.site);
      if (parts.section.empty()) continue;
      places.insert(parts.place);
      threads.insert(parts.owner);
      if (decision.kind == DecisionKind::kNext) threads.insert(decision.text);
    }
    for (const std::string& place : Gone(places, plain_.places)) {
      for (const std::string& other : MostLike(place, plain_.places)) {
        Add("renamed", absl::StrCat(place, " is now ", other),
            [&](Decision& decision) {
              SiteParts parts = Split(decision.site);
              if (parts.place != place) return false;
              parts.place = other;
              decision.site = parts.Join();
              return true;
            });
      }
    }
    for (const std::string& thread : Gone(threads, plain_.threads)) {
      for (const std::string& other : MostLike(thread, plain_.threads)) {
        Add("renamed", absl::StrCat(thread, " is now ", other),
            [&](Decision& decision) {
              return Rename(thread, other, decision);
            });
      }
    }
  }

  static std::vector<std::string> Gone(const std::set<std::string>& recorded,
                                       const std::vector<std::string>& now) {
    std::vector<std::string> gone;
    for (const std::string& label : recorded) {
      if (std::find(now.begin(), now.end(), label) == now.end()) {
        gone.push_back(label);
      }
    }
    return gone;
  }

  static bool Rename(const std::string& thread, const std::string& other,
                     Decision& decision) {
    bool is_changed = false;
    SiteParts parts = Split(decision.site);
    if (parts.owner == thread) {
      parts.owner = other;
      decision.site = parts.Join();
      is_changed = true;
    }
    if (decision.kind == DecisionKind::kNext && decision.text == thread) {
      decision.text = other;
      decision.value = HashBytes(other);
      is_changed = true;
    }
    return is_changed;
  }

  void AddShifted(int64_t by) {
    Add("shifted", absl::StrCat("the numbers of all sections moved by ", by),
        [by](Decision& decision) { return MoveSection(decision, by); });
    Add("shifted", absl::StrCat("all counts moved by ", by),
        [by](Decision& decision) { return MoveCount(decision, by); });
    std::set<std::string> places;
    std::set<std::string> owners;
    for (const Decision& decision : decisions_) {
      places.insert(Split(decision.site).place);
      owners.insert(Split(decision.site).owner);
    }
    for (const std::string& place : places) {
      Add("shifted", absl::StrCat("the counts of ", place, " moved by ", by),
          [&](Decision& decision) {
            return Split(decision.site).place == place &&
                   MoveCount(decision, by);
          });
    }
    for (const std::string& owner : owners) {
      Add("shifted",
          absl::StrCat("the numbers of the sections of ", owner, " moved by ",
                       by),
          [&](Decision& decision) {
            return Split(decision.site).owner == owner &&
                   MoveSection(decision, by);
          });
    }
    if (decisions_.size() > kMaxAlone) return;
    for (const Decision& one : decisions_) {
      const std::string line = one.ToString();
      Add("shifted", absl::StrCat("the count of '", line, "' moved by ", by),
          [&](Decision& decision) {
            return decision.ToString() == line && MoveCount(decision, by);
          });
      Add("shifted", absl::StrCat("the section of '", line, "' moved by ", by),
          [&](Decision& decision) {
            return decision.ToString() == line && MoveSection(decision, by);
          });
    }
  }

  void AddDropped() {
    for (size_t size = 1 + decisions_.size() / kMaxAlone;
         size <= decisions_.size(); size *= 2) {
      for (size_t begin = 0; begin < decisions_.size(); begin += size) {
        const size_t end = std::min(begin + size, decisions_.size());
        RecordingVariant variant{
            "dropped",
            absl::StrCat("without ", end - begin, " decisions from '",
                         decisions_[begin].ToString(), "' on"),
            {}};
        for (size_t i = 0; i < decisions_.size(); ++i) {
          if (i < begin || i >= end) {
            variant.decisions.push_back(decisions_[i]);
          }
        }
        variants_.push_back(std::move(variant));
      }
    }
  }

  const std::vector<Decision>& decisions_;
  const RunResult& plain_;
  std::set<std::string> seen_;
  std::vector<RecordingVariant> variants_;
};

}  // namespace

std::vector<RecordingVariant> RecordingVariants(
    const std::vector<Decision>& decisions, const RunResult& plain) {
  return Maker(decisions, plain).Make();
}

std::vector<Decision> CombinedVariant(const std::vector<Decision>& decisions,
                                      uint64_t number) {
  uint64_t draws = 0;
  const auto below = [&](uint64_t bound) {
    return Below(Draw(number, HashBytes("combined variant"), draws++), bound);
  };
  // Of 8 decisions, how many are changed.
  const uint64_t changes = 1 + below(4);
  std::vector<Decision> combined;
  for (const Decision& recorded : decisions) {
    if (below(8) >= changes) {
      combined.push_back(recorded);
      continue;
    }
    const uint64_t what = below(4);
    if (what == 0) continue;  // It is dropped.
    Decision decision = recorded;
    const int64_t by =
        (below(2) == 0 ? 1 : -1) * (1 + static_cast<int64_t>(below(2)));
    if (what == 1) MoveCount(decision, by);
    if (what == 2) MoveSection(decision, by);
    if (what == 3 && decision.kind == DecisionKind::kStall) {
      decision.value = decision.value / 2 + below(decision.value + 1);
    }
    combined.push_back(std::move(decision));
  }
  return combined;
}

}  // namespace reprise

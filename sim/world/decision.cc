#include "sim/world/decision.h"

#include <charconv>
#include <utility>

#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

constexpr std::string_view kKindNames[] = {"switch", "next", "stall", "latency",
                                           "rare"};

uint64_t OverrideKey(const SiteKey& site, uint64_t count, DecisionKind kind) {
  return HashCombine(
      HashCombine(HashCombine(site.stream, site.section_hash), count),
      static_cast<uint64_t>(kind));
}

uint64_t OverrideKey(const Site& site, DecisionKind kind) {
  return OverrideKey({site.stream, site.section_hash}, site.count, kind);
}

}  // namespace

std::string_view ToString(DecisionKind kind) {
  return kKindNames[static_cast<size_t>(kind)];
}

std::string Decision::ToString() const {
  std::string line = site + "#" + std::to_string(count) + " ";
  line += reprise::ToString(kind);
  line += ' ';
  line += kind == DecisionKind::kNext ? text : std::to_string(value);
  return line;
}

std::optional<Decision> Decision::Parse(std::string_view line) {
  const size_t hash = line.find('#');
  if (hash == std::string_view::npos) return std::nullopt;
  Decision decision;
  decision.site = std::string(line.substr(0, hash));
  if (!ParseSiteLabel(/*seed=*/0, decision.site)) return std::nullopt;
  const char* const end = line.data() + line.size();
  auto [rest, error] =
      std::from_chars(line.data() + hash + 1, end, decision.count);
  if (error != std::errc() || rest == end || *rest != ' ') return std::nullopt;
  std::string_view kind_and_value(rest + 1, end - rest - 1);
  const size_t blank = kind_and_value.find(' ');
  if (blank == std::string_view::npos) return std::nullopt;
  const std::string_view kind = kind_and_value.substr(0, blank);
  const std::string_view value = kind_and_value.substr(blank + 1);
  for (size_t i = 0; i < std::size(kKindNames); ++i) {
    if (kKindNames[i] != kind) continue;
    decision.kind = static_cast<DecisionKind>(i);
    if (decision.kind == DecisionKind::kNext) {
      decision.text = std::string(value);
      decision.value = HashBytes(value);
      return decision;
    }
    auto [number_end, number_error] =
        std::from_chars(value.data(), end, decision.value);
    if (number_error != std::errc() || number_end != end) return std::nullopt;
    return decision;
  }
  return std::nullopt;
}

Decisions::Decisions(uint64_t seed, const std::vector<Decision>* recording,
                     bool keep_trace)
    : seed_(seed), recording_(recording), keep_(keep_trace) {
  if (recording_ == nullptr) return;
  overrides_.reserve(recording_->size());
  for (size_t i = 0; i < recording_->size(); ++i) {
    const Decision& decision = (*recording_)[i];
    const std::optional<SiteKey> site = ParseSiteLabel(seed_, decision.site);
    if (!site) continue;  // It is never reached.
    overrides_.emplace(OverrideKey(*site, decision.count, decision.kind),
                       Override{decision.value, i});
  }
  followed_.resize(recording_->size());
}

const Place& Decisions::PlaceAt(std::string_view label) {
  auto it = places_.find(label);
  if (it == places_.end()) {
    auto place = std::make_unique<Place>(
        Place{std::string(label), HashBytes(label), places_.size()});
    it = places_.emplace(label, std::move(place)).first;
  }
  return *it->second;
}

const Place& Decisions::PlaceAt(const char* verb, const char* name) {
  for (const LiteralPlace& known : literal_places_) {
    if (known.verb == verb && known.name == name) return *known.place;
  }
  const Place& place = PlaceAt(absl::StrCat(verb, ":", name));
  literal_places_.push_back({verb, name, &place});
  return place;
}

std::vector<std::string> Decisions::places() const {
  std::vector<std::string> labels;
  for (const auto& [label, place] : places_) labels.push_back(label);
  return labels;
}

Site* Decisions::SiteAt(std::string_view node, std::string_view label) {
  auto it = sites_.find(SiteNameView(node, label));
  if (it == sites_.end()) {
    it = sites_.try_emplace({std::string(node), std::string(label)}).first;
    Site& site = it->second;
    site.owner = &it->first.first;
    site.place = &it->first.second;
    site.stream =
        HashCombine(HashCombine(seed_, HashBytes(node)), HashBytes(label));
  }
  return &it->second;
}

std::optional<uint64_t> Decisions::Recorded(const Site& site,
                                            DecisionKind kind) {
  auto it = overrides_.find(OverrideKey(site, kind));
  if (it == overrides_.end()) return std::nullopt;
  followed_[it->second.index] = true;
  return it->second.value;
}

void Decisions::Mismatch(const Site& site, DecisionKind kind) {
  auto it = overrides_.find(OverrideKey(site, kind));
  if (it != overrides_.end()) followed_[it->second.index] = false;
}

void Decisions::Keep(const Site& site, DecisionKind kind, uint64_t value,
                     std::string_view text) {
  if (!keep_) return;
  kept_.push_back({site.Label(), site.count, kind, value, std::string(text)});
}

std::vector<Decision> Decisions::Followed() const {
  std::vector<Decision> followed;
  for (size_t i = 0; i < followed_.size(); ++i) {
    if (followed_[i]) followed.push_back((*recording_)[i]);
  }
  return followed;
}

std::string Decisions::FirstMismatch() const {
  for (size_t i = 0; i < followed_.size(); ++i) {
    if (!followed_[i]) return (*recording_)[i].ToString();
  }
  return "";
}

}  // namespace reprise

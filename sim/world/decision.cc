#include "sim/world/decision.h"

#include <charconv>
#include <utility>

namespace reprise {
namespace {

constexpr std::string_view kKindNames[] = {"switch", "next", "stall",
                                           "latency"};

uint64_t OverrideKey(uint64_t stream, uint64_t count, DecisionKind kind) {
  return HashCombine(HashCombine(stream, count), static_cast<uint64_t>(kind));
}

uint64_t StreamOf(uint64_t seed, std::string_view site_label) {
  return HashCombine(seed, HashBytes(site_label));
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
  // The site has one blank in it, between node and label.
  const size_t hash = line.find('#');
  if (hash == std::string_view::npos) return std::nullopt;
  Decision decision;
  decision.site = std::string(line.substr(0, hash));
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
                     bool keep)
    : seed_(seed), recording_(recording), keep_(keep) {
  if (recording_ == nullptr) return;
  overrides_.reserve(recording_->size());
  for (size_t i = 0; i < recording_->size(); ++i) {
    const Decision& decision = (*recording_)[i];
    overrides_.emplace(OverrideKey(StreamOf(seed_, decision.site),
                                   decision.count, decision.kind),
                       Override{decision.value, i});
  }
  followed_.resize(recording_->size());
}

Site* Decisions::SiteAt(std::string_view node, std::string_view label) {
  std::string full;
  full.reserve(node.size() + label.size() + 1);
  full.append(node).append(" ").append(label);
  auto it = sites_.find(full);
  if (it == sites_.end()) {
    auto site = std::make_unique<Site>();
    site->label = full;
    site->stream = StreamOf(seed_, full);
    it = sites_.emplace(std::move(full), std::move(site)).first;
  }
  return it->second.get();
}

std::optional<uint64_t> Decisions::Recorded(const Site& site,
                                            DecisionKind kind) {
  auto it = overrides_.find(OverrideKey(site.stream, site.count, kind));
  if (it == overrides_.end()) return std::nullopt;
  followed_[it->second.index] = true;
  return it->second.value;
}

void Decisions::Mismatch(const Site& site, DecisionKind kind) {
  auto it = overrides_.find(OverrideKey(site.stream, site.count, kind));
  if (it != overrides_.end()) followed_[it->second.index] = false;
}

void Decisions::Keep(const Site& site, DecisionKind kind, uint64_t value,
                     std::string_view text) {
  if (!keep_) return;
  kept_.push_back({site.label, site.count, kind, value, std::string(text)});
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

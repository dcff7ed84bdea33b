#include "sim/world/site.h"

#include <array>
#include <charconv>
#include <utility>

namespace reprise {
namespace {

constexpr std::string_view kKindNames[] = {"start",   "call",  "completed",
                                           "request", "reply", "read"};

// Names come from peers too. In a label they must not end anything.
constexpr std::array<bool, 256> kIsPlain = [] {
  std::array<bool, 256> plain = {};
  for (size_t c = ' '; c < plain.size(); ++c) plain[c] = true;
  for (const unsigned char c : {'[', ']', '#', '~'}) plain[c] = false;
  return plain;
}();

template <typename Int>
bool ParseInt(std::string_view text, Int& value) {
  auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

void Section::Begin(SectionKind kind, std::string_view who, uint64_t number,
                    uint64_t again) {
  Name(kind, who);
  Number(number, again);
}

void Section::Name(SectionKind kind, std::string_view who) {
  kind_ = kind;
  if (who_ == who && !who.empty()) return;  // its hash is known
  who_.assign(who);
  for (char& c : who_) {
    if (!kIsPlain[static_cast<unsigned char>(c)]) c = '_';
  }
  who_hash_ = HashBytes(who_);
}

void Section::Number(uint64_t number, uint64_t again) {
  number_ = number;
  again_ = again;
  hash_ = HashCombine(HashCombine(who_hash_, number),
                      again * 8 + static_cast<uint64_t>(kind_));
}

std::string Section::ToString() const {
  std::string text(kKindNames[static_cast<size_t>(kind_)]);
  if (kind_ == SectionKind::kStart) return text;
  text += " " + who_ + " " + std::to_string(number_);
  if (again_ != 1) text += "~" + std::to_string(again_);
  return text;
}

std::optional<Section> Section::Parse(std::string_view text) {
  Section section;
  if (text == kKindNames[0]) return section;
  const size_t begin = text.find(' ');
  const size_t end = text.rfind(' ');
  if (begin == std::string_view::npos || begin == end) return std::nullopt;
  const std::string_view who = text.substr(begin + 1, end - begin - 1);
  std::string_view number_text = text.substr(end + 1);
  uint64_t number = 0;
  uint64_t again = 1;
  const size_t tilde = number_text.find('~');
  if (tilde != std::string_view::npos) {
    if (!ParseInt(number_text.substr(tilde + 1), again)) return std::nullopt;
    number_text = number_text.substr(0, tilde);
  }
  if (!ParseInt(number_text, number)) return std::nullopt;
  for (size_t kind = 1; kind < std::size(kKindNames); ++kind) {
    if (kKindNames[kind] != text.substr(0, begin)) continue;
    section.Begin(static_cast<SectionKind>(kind), who, number, again);
    return section;
  }
  return std::nullopt;
}

std::string Site::Label() const {
  std::string label = *owner + ' ';
  if (section != nullptr) label += "[" + section->ToString() + "] ";
  return label.append(*place);
}

void ThreadSites::Start(uint64_t seed, const std::string& thread,
                        uint64_t hash) {
  thread_ = &thread;
  stream_ = HashCombine(seed, hash);
}

size_t ThreadSites::SlotOf(const Place& place) const {
  const size_t mask = table_.size() - 1;
  size_t slot = place.index & mask;
  while (table_[slot].site != nullptr && table_[slot].place != &place) {
    slot = (slot + 1) & mask;
  }
  return slot;
}

Site& ThreadSites::FindOrMake(const Place& place) {
  if (!table_.empty()) {
    const Entry& entry = table_[SlotOf(place)];
    if (entry.site != nullptr) return *entry.site;
  }
  // One slot of four stays free.
  if (4 * (num_sites_ + 1) > 3 * table_.size()) {
    std::vector<Entry> old(table_.empty() ? 4 : 2 * table_.size());
    old.swap(table_);
    for (Entry& entry : old) {
      if (entry.site == nullptr) continue;
      table_[SlotOf(*entry.place)] = std::move(entry);
    }
  }
  auto site = std::make_unique<Site>();
  site->owner = thread_;
  site->place = &place.label;
  site->stream = HashCombine(stream_, place.hash);
  site->section = &section_;
  Entry& entry = table_[SlotOf(place)];
  entry = {&place, std::move(site)};
  ++num_sites_;
  return *entry.site;
}

void ThreadSites::Begin(SectionKind kind, std::string_view who,
                        uint64_t number) {
  section_.Begin(kind, who, number);
  if (const uint64_t again = ++times_[section_.hash()]; again != 1) {
    section_.Number(number, again);
  }
}

void ThreadSites::BeginNext(SectionKind kind, std::string_view who) {
  section_.Begin(kind, who, 0);
  section_.Number(++times_[section_.hash()], 1);
}

std::optional<SiteKey> ParseSiteLabel(uint64_t seed, std::string_view label) {
  const size_t open = label.find(" [");
  if (open == std::string_view::npos) {
    const size_t blank = label.find(' ');
    if (blank == std::string_view::npos) return std::nullopt;
    return SiteKey{
        HashCombine(HashCombine(seed, HashBytes(label.substr(0, blank))),
                    HashBytes(label.substr(blank + 1))),
        0};
  }
  const size_t close = label.find("] ", open);
  if (close == std::string_view::npos) return std::nullopt;
  const std::optional<Section> section =
      Section::Parse(label.substr(open + 2, close - open - 2));
  if (!section) return std::nullopt;
  return SiteKey{
      HashCombine(HashCombine(seed, HashBytes(label.substr(0, open))),
                  HashBytes(label.substr(close + 2))),
      section->hash()};
}

}  // namespace reprise

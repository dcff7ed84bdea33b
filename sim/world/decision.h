// Decisions: every choice that a world makes.
//
// A choice is made at one visit to a site (site.h), such as the second time
// that w1/main takes the lock `calls` in its fifth call to w2. It is drawn from
// a stream that has the same key, so a new draw at one site does not shift the
// draws at any other. In a replay the choices come from a recording instead.
// They are matched by site, section, count and kind, and the first recorded
// choice that cannot be followed is reported.

#ifndef REPRISE_SIM_WORLD_DECISION_H_
#define REPRISE_SIM_WORLD_DECISION_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "sim/random.h"
#include "sim/world/site.h"

namespace reprise {

std::string_view ToString(DecisionKind kind);

// A decision that differs from the default.
struct Decision {
  std::string site;
  uint64_t count = 0;
  DecisionKind kind = DecisionKind::kSwitch;
  uint64_t value = 0;
  std::string text;  // of kNext: the label of the fiber

  // "w1/main [call w2 5] lock:calls#2 next w1/io": one line of a replay file.
  std::string ToString() const;
  static std::optional<Decision> Parse(std::string_view line);
};

// The decisions of one run. Not thread-safe.
class Decisions {
 public:
  // If `recording` is not null, the choices are made as it says, and every
  // choice that it does not contain is the default. It must outlive this
  // object. `keep_trace`: whether to keep the decisions for `kept`.
  Decisions(uint64_t seed, const std::vector<Decision>* recording,
            bool keep_trace);

  uint64_t seed() const { return seed_; }
  bool replaying() const { return recording_ != nullptr; }

  // The place with this label, and the site outside of threads with this label
  // on `node`. Each is made at the first use and stays valid as long as this
  // object.
  const Place& PlaceAt(std::string_view label);
  Site* SiteAt(std::string_view node, std::string_view label);
  // The place with the label "verb:name". Both are literals, so they are looked
  // up by address first: objects with a lock come and go with every call.
  const Place& PlaceAt(const char* verb, const char* name);

  // The labels of all places, in an order that only the run decides.
  std::vector<std::string> places() const;

  // What the recording says for this visit, or nothing.
  std::optional<uint64_t> Recorded(const Site& site, DecisionKind kind);

  // Notes that a recorded choice could not be followed.
  void Mismatch(const Site& site, DecisionKind kind);

  // Notes a choice other than the default.
  void Keep(const Site& site, DecisionKind kind, uint64_t value,
            std::string_view text = {});

  int64_t num_made() const { return num_made_; }
  void CountMade() { ++num_made_; }
  const std::vector<Decision>& kept() const { return kept_; }

  // Whether this decision of the recording was reached and followed.
  bool IsFollowed(size_t index) const { return followed_[index]; }
  // All of those.
  std::vector<Decision> Followed() const;

  // The first recorded decision, in the order of the recording, that was not
  // reached or could not be followed; empty if all were followed.
  std::string FirstMismatch() const;

 private:
  struct Override {
    uint64_t value;
    size_t index;
  };
  const uint64_t seed_;
  const std::vector<Decision>* const recording_;
  const bool keep_;
  int64_t num_made_ = 0;
  std::map<std::string, std::unique_ptr<Place>, std::less<>> places_;
  // By node and label. Looked up only, never iterated.
  using SiteName = std::pair<std::string, std::string>;
  using SiteNameView = std::pair<std::string_view, std::string_view>;
  struct SiteNameHash {
    using is_transparent = void;
    size_t operator()(const SiteNameView& name) const {
      return HashCombine(HashBytes(name.first), HashBytes(name.second));
    }
    size_t operator()(const SiteName& name) const {
      return (*this)(SiteNameView(name));
    }
  };
  struct SameSiteName {
    using is_transparent = void;
    bool operator()(const SiteNameView& a, const SiteNameView& b) const {
      return a == b;
    }
  };
  std::unordered_map<SiteName, Site, SiteNameHash, SameSiteName> sites_;
  struct LiteralPlace {
    const char* verb;
    const char* name;
    const Place* place;
  };
  std::vector<LiteralPlace> literal_places_;
  // Looked up only, never iterated.
  std::unordered_map<uint64_t, Override> overrides_;
  std::vector<bool> followed_;
  std::vector<Decision> kept_;
};

}  // namespace reprise

#endif  // REPRISE_SIM_WORLD_DECISION_H_

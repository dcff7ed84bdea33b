// Decisions: every choice that a world makes.
//
// A choice is made at a site (a labelled place on one node, "w1 lock:calls")
// on one visit to it (the count), and is drawn from a stream keyed the same
// way, so that a new draw at one site shifts no other. In a replay the choices
// come from a recording instead, matched by (site, count, kind); the first one
// that does not fit is named.

#ifndef REPRISE_SIM_WORLD_DECISION_H_
#define REPRISE_SIM_WORLD_DECISION_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "sim/random.h"

namespace reprise {

enum class DecisionKind : uint8_t {
  kSwitch,   // at a point: 1 = let somebody else run; default 0
  kNext,     // who runs next; value: hash of the fiber's label; default: the
             // one that has waited longest
  kStall,    // at a point: nanoseconds to stall; default 0
  kLatency,  // nanoseconds a message takes; default: as drawn
};

std::string_view ToString(DecisionKind kind);

// A place at which decisions are made.
struct Site {
  std::string label;
  uint64_t stream = 0;  // keys its draws, together with the seed
  uint64_t count = 0;   // visits so far

  // 64 random bits for `kind` at the present visit.
  uint64_t Bits(DecisionKind kind) const {
    return Mix(stream + static_cast<uint64_t>(kind) * 0xd6e8feb86659fd93u +
               count * 0x9e3779b97f4a7c15u);
  }
};

// One decision that was not the default.
struct Decision {
  std::string site;
  uint64_t count = 0;
  DecisionKind kind = DecisionKind::kSwitch;
  uint64_t value = 0;
  std::string text;  // of kNext: the label of the fiber

  // "w1 lock:calls#17 next w1/io": one line of a replay file.
  std::string ToString() const;
  static std::optional<Decision> Parse(std::string_view line);
};

// The decisions of one run. Not thread-safe.
class Decisions {
 public:
  // `recording`: if not null, the choices to make; every choice that it does
  // not hold is the default. `keep`: whether to keep what was decided.
  Decisions(uint64_t seed, const std::vector<Decision>* recording, bool keep);

  uint64_t seed() const { return seed_; }
  bool replaying() const { return recording_ != nullptr; }

  // The site at `node`'s `label`, made at its first use. Stays valid.
  Site* SiteAt(std::string_view node, std::string_view label);

  // What the recording holds for this visit, if anything.
  std::optional<uint64_t> Recorded(const Site& site, DecisionKind kind);

  // A recorded choice could not be followed.
  void Mismatch(const Site& site, DecisionKind kind);

  // Notes a choice other than the default.
  void Keep(const Site& site, DecisionKind kind, uint64_t value,
            std::string_view text = {});

  int64_t num_made() const { return num_made_; }
  void CountMade() { ++num_made_; }
  const std::vector<Decision>& kept() const { return kept_; }

  // The recorded decisions that were reached and followed.
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
  // Looked up only, never iterated.
  std::unordered_map<std::string, std::unique_ptr<Site>> sites_;
  std::unordered_map<uint64_t, Override> overrides_;
  std::vector<bool> followed_;
  std::vector<Decision> kept_;
};

}  // namespace reprise

#endif  // REPRISE_SIM_WORLD_DECISION_H_

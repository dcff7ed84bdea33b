// Decisions: every choice that a world makes.
//
// A choice is made at a site, which is a labelled place on one node such as
// "w1 lock:calls", at one visit to it, which the count numbers. It is drawn
// from a stream that has the same key, so a new draw at one site does not shift
// the draws at any other. In a replay the choices come from a recording
// instead. They are matched by site, count and kind, and the first recorded
// choice that cannot be followed is reported.

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
  kSwitch,   // at a point: 1 lets another fiber run; the default is 0
  kNext,     // the hash of the label of the fiber that runs next; the default
             // is the fiber that has waited longest
  kStall,    // at a point: nanoseconds to stall; the default is 0
  kLatency,  // nanoseconds that a message or the work of a GPU takes; the
             // default is drawn
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

// A decision that differs from the default.
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
  // If `recording` is not null, the choices are made as it says, and every
  // choice that it does not contain is the default. It must outlive this
  // object. `keep_trace`: whether to keep the decisions for `kept`.
  Decisions(uint64_t seed, const std::vector<Decision>* recording,
            bool keep_trace);

  uint64_t seed() const { return seed_; }
  bool replaying() const { return recording_ != nullptr; }

  // The site with this label on `node`. It is made at the first use and stays
  // valid as long as this object.
  Site* SiteAt(std::string_view node, std::string_view label);

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

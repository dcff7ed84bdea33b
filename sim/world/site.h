// Sites: where the decisions of a world are made, and how they are told apart.
//
// A decision is drawn, recorded and found again by the visit at which it is
// made, which is named by
//   the thread       "w1/worker-0",
//   its section      the call, the request or the frame that the thread is at
//                    work on: "call w2 5" is its fifth call to w2,
//   the place        "lock:CallTable", whichever object it is,
//   the count        of its visits to the place within the section, from 1.
// So a change of what one thread does in one section shifts no visit of another
// thread, nor of another section of the same thread.
//
// A world has one OS thread at a time, so nothing here is thread-safe.

#ifndef REPRISE_SIM_WORLD_SITE_H_
#define REPRISE_SIM_WORLD_SITE_H_

#include <cstddef>
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
  kRare,     // at a rare way (agent/rare_way.h): 1 takes it; the default is 0
};

// A place in the code, for all threads of a world.
struct Place {
  std::string label;
  uint64_t hash = 0;
  size_t index = 0;  // of its places, from 0
};

// What begins a section.
enum class SectionKind : uint8_t {
  kStart,      // the thread began
  kCall,       // it started a call: `who` is the callee, and the label if the
               // call has one; the number counts such calls of the thread
  kCompleted,  // it completed a call: to whom, and the call's id
  kRequest,    // it runs a request: the caller, and the call's id
  kReply,      // it has replied: the caller, and the call's id
  kRead,       // it has read from a connection: which, and how many messages
};

class Section {
 public:
  // Each begins another section. `again` tells apart what has the same kind,
  // `who` and number, from 1.
  void Begin(SectionKind kind, std::string_view who, uint64_t number,
             uint64_t again = 1);

  uint64_t hash() const { return hash_; }

  // "call w2 5", "reply w0 17~2"; "start" before the first `Begin`.
  std::string ToString() const;
  static std::optional<Section> Parse(std::string_view text);

 private:
  friend class ThreadSites;
  // `Begin` in two steps.
  void Name(SectionKind kind, std::string_view who);
  void Number(uint64_t number, uint64_t again);

  SectionKind kind_ = SectionKind::kStart;
  std::string who_;
  uint64_t who_hash_ = 0;
  uint64_t number_ = 0;
  uint64_t again_ = 1;
  uint64_t hash_ = 0;
};

// Where decisions are made: a place as one thread visits it, or, outside of
// threads, a label on one node.
struct Site {
  const std::string* owner = nullptr;  // the label of the thread or of the node
  const std::string* place = nullptr;
  uint64_t stream = 0;  // keys its draws, together with the seed
  // The owner's, as it is now, and at the last visit; null outside of threads.
  const Section* section = nullptr;
  uint64_t section_hash = 0;
  uint64_t count = 0;  // visits so far in this section

  // To be called before the decisions of each visit.
  void Visit() {
    if (section != nullptr && section->hash() != section_hash) {
      section_hash = section->hash();
      count = 0;
    }
    ++count;
  }

  // 64 random bits for `kind` at the present visit.
  uint64_t Bits(DecisionKind kind) const {
    return Mix(stream + section_hash +
               static_cast<uint64_t>(kind) * 0xd6e8feb86659fd93u +
               count * 0x9e3779b97f4a7c15u);
  }

  // "w1/main [call w2 5] lock:CallTable"; "w1 send:17" outside of threads. Not
  // to be called after the thread has begun another section.
  std::string Label() const;
};

// The sites of one thread, which must not move.
class ThreadSites {
 public:
  // `thread` is the thread's label, which must outlive this object, and `hash`
  // its hash.
  void Start(uint64_t seed, const std::string& thread, uint64_t hash);

  // Valid as long as this object. The place must be of the same world.
  Site& At(const Place& place) {
    if (!table_.empty()) {
      const Entry& entry = table_[place.index & (table_.size() - 1)];
      if (entry.place == &place) return *entry.site;
    }
    return FindOrMake(place);
  }

  // Begins a section. A number of its own tells it from others of the same
  // kind, `who` and `number`.
  void Begin(SectionKind kind, std::string_view who, uint64_t number);
  // The number counts those of the same kind and `who`.
  void BeginNext(SectionKind kind, std::string_view who);
  void BeginRead(std::string_view connection, uint64_t number, uint64_t frame) {
    section_.Begin(SectionKind::kRead, connection, number, frame);
  }

 private:
  struct Entry {
    const Place* place = nullptr;
    std::unique_ptr<Site> site;
  };
  Site& FindOrMake(const Place& place);
  // Where the site of the place is, or where it belongs. A slot must be free.
  size_t SlotOf(const Place& place) const;

  const std::string* thread_ = nullptr;
  uint64_t stream_ = 0;
  Section section_;
  // By the index of the place, and behind it what found its slot taken. A
  // thread visits few of the places of a world.
  std::vector<Entry> table_;  // a power of two long, or empty
  size_t num_sites_ = 0;
  std::unordered_map<uint64_t, uint64_t> times_;  // begun, by hash
};

// The keys under which a site's visits are found, given its label.
struct SiteKey {
  uint64_t stream = 0;
  uint64_t section_hash = 0;
};

// Nothing if the label has a section that cannot be.
std::optional<SiteKey> ParseSiteLabel(uint64_t seed, std::string_view label);

}  // namespace reprise

#endif  // REPRISE_SIM_WORLD_SITE_H_

// The words for what happened in a run: each event as a sentence, and each rule
// as one.

#ifndef REPRISE_SIM_VIEW_WORDS_H_
#define REPRISE_SIM_VIEW_WORDS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fault_injection/fault.h"
#include "sim/scenario/run_result.h"
#include "sim/trace/trace.h"

namespace reprise {

// A call of one caller: its rank, and the call's id.
using CallKey = std::pair<int32_t, uint64_t>;

// The rank of a worker by its name: "w3" or, with something after it, "w3-x" or
// "w3:b"; -1 for any other text.
int32_t RankOfName(std::string_view name);

// "w3".
std::string WorkerName(int32_t rank);

// Whether events of this kind are of no use to a reader of the story. All other
// kinds have words.
bool IsTooSmallToTell(EventKind kind);

// What must hold, as a sentence: "A call that was started is completed exactly
// once." Of a scenario's own rule it says only that it is one.
std::string MeaningOf(std::string_view rule);

// Gives events their words. It is shown the events in their order, since names
// and labels are said once and used later. Not thread-safe.
class Narrator {
 public:
  // `result` must outlive the narrator.
  explicit Narrator(const RunResult& result);

  // What happened, without the time and the worker: "gets call 53 (push) of
  // w0". Nothing for what is too small to tell.
  std::optional<std::string> Tell(const Event& event);

  // "call 53 (push)", or "call 53" where there is no label so far.
  std::string CallName(const CallKey& call) const;
  // The worker that is called or named by this id.
  std::string PeerName(int32_t id) const;

 private:
  // A fault of the plan.
  struct Planned {
    Fault fault;
    int64_t events_to_come = 0;  // 0: it begins at a time, or has begun
    int64_t begin_ns = 0;
  };

  void Learn(const Event& event);
  std::string Words(const Event& event) const;
  // The lines of the plan that the fault may be, or its word alone.
  std::string FaultWords(const Event& event) const;

  const RunResult& result_;
  std::vector<Planned> plan_;  // without what never struck
  std::map<CallKey, std::string> labels_;
  std::map<int32_t, std::string> names_;  // of a dynamic group's members, by id
};

}  // namespace reprise

#endif  // REPRISE_SIM_VIEW_WORDS_H_

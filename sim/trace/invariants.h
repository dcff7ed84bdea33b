// The rules that hold in every scenario, checked on the trace of all workers.
//
//  exactly-once      a call that was started is completed exactly once, and no
//                    call is open when its agent has shut down
//  deadline          a call does not time out before its deadline, unless the
//                    remote function reports a timeout of its own
//  byte-for-byte     requests and replies arrive as they were sent
//  named-cause       a failed call says why
//  after-shutdown    nothing happens to an agent that has shut down
//  barrier           no worker leaves a barrier before all members are in it
//  shutdown          a worker shuts down its agent before it ends
//
// And those of causes.h: `unfounded`, `heard`, `handed-over`, `answered` and
// `given-up`.
//
// Other rules are checked elsewhere: `deadlock`, `time-limit` and `progress` by
// the world, `leak` and `settle` by the run, those that begin with `gpu-` by
// the simulated GPUs (sim/device), and a scenario's own rules by
// `Worker::Check`.

#ifndef REPRISE_SIM_TRACE_INVARIANTS_H_
#define REPRISE_SIM_TRACE_INVARIANTS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sim/trace/causes.h"
#include "sim/trace/trace.h"

namespace reprise {

// Not thread-safe. It is given the events of one run in their order.
class Invariants {
 public:
  // Called for the first violation only.
  using Violated =
      std::function<void(std::string_view rule, std::string_view detail)>;

  // `may_be_foreign`: workers on which no agent of ours listens may have
  // another agent, which tells nothing of what it sends and of where it waits.
  Invariants(int num_workers, Violated violated, bool may_be_foreign = false)
      : num_workers_(num_workers),
        violated_(std::move(violated)),
        may_be_foreign_(may_be_foreign),
        causes_([this](std::string_view rule, const Event& event,
                       std::string_view what) { Fail(rule, event, what); }) {}

  void OnEvent(const Event& event);

  // To be called at the end of a run in which every worker ended or crashed.
  void Finish();

 private:
  struct Call {
    int32_t callee;
    int64_t deadline_ns;
    bool started_here = false;
  };
  using CallKey = std::pair<int32_t, uint64_t>;  // caller's rank, call id

  struct Member {
    std::map<uint64_t, Call> open_calls;
    std::set<uint64_t> closed_calls;
    bool agent_running = false;
    bool agent_was_shut_down = false;
  };

  void CallStarted(const Event& event);
  void CallCompleted(const Event& event);
  void Forget(int32_t rank);
  bool IsForeign(int32_t rank) const {
    return may_be_foreign_ && !ours_.contains(rank);
  }
  int NumForeign() const;
  void Fail(std::string_view rule, const Event& event, std::string_view what);

  const int num_workers_;
  const Violated violated_;
  const bool may_be_foreign_;
  Causes causes_;
  std::set<int32_t> ours_;  // workers on which an agent of ours has listened
  bool failed_ = false;
  std::vector<Member> members_;  // by rank, of those that did something
  // The digests of each caller's requests, and of the replies to them. A caller
  // that was restarted uses the same call ids again, so these are sets.
  std::map<CallKey, std::set<uint64_t>> requests_;
  std::map<CallKey, std::set<uint64_t>> replies_;
  std::map<uint64_t, std::set<int32_t>> in_barrier_;
};

}  // namespace reprise

#endif  // REPRISE_SIM_TRACE_INVARIANTS_H_

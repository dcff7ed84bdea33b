// Rules about causes, checked on the trace of all workers: what failed must
// have failed for a reason that is there.
//
//  unfounded    a call that fails because of the connection to a peer has a
//               failure of such a connection with that text: while the call
//               ran, or since the last one connected, give or take 50 ms
//  heard        a connection that fails for want of a sign of life has brought
//               nothing for at least half of the time that it says
//  handed-over  no call is handed to a handler more often than it was started
//  answered     no call is answered more often than it was started
//  given-up     no call is handed to a handler that was sent over a connection
//               which began after the call had failed or been cancelled
//
// `heard` and `given-up` need the events of the network, which only a simulated
// world has. `heard` is not checked once a worker was slow, paused, short of
// memory or has a clock that drifts, nor for a worker that began to listen more
// than once. `given-up` is not checked for the calls of such a worker, nor for
// those that its shutdown ended. Calls that were never started are left to
// other rules, and those of an earlier incarnation count for the next one,
// which uses the same ids.

#ifndef REPRISE_SIM_TRACE_CAUSES_H_
#define REPRISE_SIM_TRACE_CAUSES_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "sim/trace/trace.h"

namespace reprise {

// The rank of a worker by the name that it claims, "w3" or, with something
// after it, "w3-old"; -1 for any other.
int32_t RankOfWorker(std::string_view name);

// Not thread-safe. It is given the events of one run in their order.
class Causes {
 public:
  using Violated = std::function<void(std::string_view rule, const Event& event,
                                      std::string_view what)>;

  explicit Causes(Violated violated) : violated_(std::move(violated)) {}

  void OnEvent(const Event& event);
  // To be called at the end of a run in which every worker ended or crashed.
  void Finish();

 private:
  // The connections of one worker to one peer, by the peer's name.
  struct Peer {
    // When a failure with this text was last seen.
    std::map<std::string, int64_t, std::less<>> failures_ns;
    int64_t connected_ns = 0;
  };
  struct FailedCall {
    int64_t started_ns = 0;
    int64_t ended_ns = 0;
  };
  struct Member {
    std::map<std::string, Peer, std::less<>> peers;
    absl::flat_hash_map<uint64_t, int64_t> started_ns;       // by the call's id
    absl::flat_hash_map<uint64_t, FailedCall> failed_calls;  // by its id
    // Completions whose failure has not been seen yet: another thread may be
    // about to tell of it.
    std::vector<Event> unfounded;
  };
  // The ranks of its ends, and when something last came to each.
  struct Connection {
    int32_t client = -1;
    int32_t server = -1;
    int64_t begun_ns = 0;
    int64_t client_heard_ns = 0;
    int64_t server_heard_ns = 0;
  };
  using CallKey = std::pair<int32_t, uint64_t>;  // caller's rank, call id
  struct Counts {
    int started = 0;
    int handed_over = 0;
    int answered = 0;
  };

  Member& MemberOf(const Event& event);
  // Counts this event, of a callee, and compares with the starts of its call.
  void CheckAtMostStarted(const Event& event, int Counts::*times,
                          std::string_view rule, std::string_view what);
  void CheckGivenUp(const Event& event);
  void CallCompleted(Member& member, const Event& event);
  void PipeFailed(Member& member, const Event& event);
  void CheckSilence(const Event& event, int32_t peer);
  void CheckFounded(const Member& member);
  bool IsFounded(const Member& member, const Event& event) const;

  const Violated violated_;
  std::vector<Member> members_;  // by rank
  absl::flat_hash_map<CallKey, Counts> calls_;
  std::map<int32_t, int> listeners_;  // so far, by the rank
  // By its id.
  absl::flat_hash_map<uint64_t, Connection> connections_;
  // Whether a worker may have been too slow to notice what came.
  bool is_slow_ = false;
};

}  // namespace reprise

#endif  // REPRISE_SIM_TRACE_CAUSES_H_

// The worker of group_life.h. Its code is in two files: group_life.cc for the
// time in which workers come and go, and group_end.cc for the end.

#ifndef REPRISE_TESTS_SCENARIOS_GROUP_MEMBER_H_
#define REPRISE_TESTS_SCENARIOS_GROUP_MEMBER_H_

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/store/store.h"
#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {

inline constexpr absl::Duration kCallTimeout = absl::Seconds(1);
inline constexpr absl::Duration kJoinTimeout = absl::Seconds(4);
inline constexpr absl::Duration kLeaveTimeout = absl::Seconds(15);
inline constexpr absl::Duration kAccess = absl::Seconds(1);
inline constexpr absl::Duration kLease = absl::Seconds(2);
// More time for a worker that may be paused.
inline constexpr absl::Duration kSlack = absl::Seconds(3);
// A worker that has tried to join for so long must have joined.
inline constexpr absl::Duration kHeal = absl::Seconds(14);
// Counted from the time when no worker comes or goes any more.
inline constexpr absl::Duration kUntilQuiet = absl::Seconds(16);
inline constexpr absl::Duration kToPost = absl::Seconds(5);
inline constexpr absl::Duration kToReach = absl::Seconds(10);
// The shortest time between two changes of the group that an agent learns of.
inline constexpr absl::Duration kBetweenChanges = absl::Milliseconds(50);

// The number of the device from which a worker of this name sends.
int Digit(std::string_view name);

// Says on which devices of `to` the tensors of `from` arrive.
DeviceMap MapBetween(std::string_view from, std::string_view to);

// Not thread-safe: one thread of the worker uses it.
class GroupMember {
 public:
  explicit GroupMember(Worker& worker)
      : worker_(worker),
        store_(worker.environment().store),
        random_(worker.random("group")),
        refresh_(absl::Milliseconds(worker.param("refresh_ms"))),
        leave_timeout_(kLeaveTimeout + refresh_),
        is_graceful_(worker.param("graceful") != 0),
        has_maps_(worker.param("maps") != 0) {}

  void Live();

 private:
  // Finds the start time on which all workers agree through the store.
  bool FindStart();

  std::string NameNow();

  AgentOptions Options(const std::string& name);

  void CheckInTime(std::string_view what, absl::Time deadline);

  // Returns null if the time is over.
  std::unique_ptr<EchoAgent> Join();

  // Tries to join with maps that are not one to one, and checks that nothing of
  // the attempt is left.
  void FailToJoin();

  void CallAround(EchoAgent& agent, absl::Time until);

  // A member next to this one in the list, or any member. Neighbours are called
  // again and again, which shows what becomes of a connection when the other
  // end leaves.
  const WorkerInfo& Somebody(const std::vector<WorkerInfo>& members);

  Future Send(EchoAgent& agent, const std::string& to, const CallSpec& spec);

  void CheckPrompt(const std::string& what, absl::Time since);

  void CheckLookUps(EchoAgent& agent, const std::string& name);

  void CheckCall(const absl::Status& status, const std::string& to);

  void CheckMaps(EchoAgent& agent, const std::string& of);

  void LookForSomebody(EchoAgent& agent);

  void Go(EchoAgent& agent);

  // group_end.cc: no worker comes or goes any more.

  void SleepUntil(absl::Time time) { worker_.runtime().SleepUntil(time); }

  bool Post(const std::string& key, const std::string& value, absl::Time until);

  std::string Read(const std::string& key, absl::Time until);

  static std::string ViewOf(EchoAgent& agent);

  void StayAndAgree(EchoAgent& agent);

  // The members that come after this one on a ring of all members.
  std::map<int, std::string> NextOf(const std::map<int, std::string>& there);

  // The members that could not be reached, and why.
  std::map<int, std::string> Reach(EchoAgent& agent,
                                   const std::map<int, std::string>& there,
                                   absl::Time until);

  void CheckDevices(EchoAgent& agent);

  Worker& worker_;
  const std::shared_ptr<Store> store_;
  Draws random_;
  const absl::Duration refresh_;
  const absl::Duration leave_timeout_;
  const bool is_graceful_;
  const bool has_maps_;
  absl::Time start_;
  absl::Time end_;
  std::string name_;
  bool met_first_ = false;
  int life_ = 0;
  int starts_ = 0;
  int looks_ = 0;
};

}  // namespace reprise::scenarios

#endif  // REPRISE_TESTS_SCENARIOS_GROUP_MEMBER_H_

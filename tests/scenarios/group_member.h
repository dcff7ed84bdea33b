// A worker of group_life.h, in two parts: its coming and going, and the end.

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
// For who may stand still.
inline constexpr absl::Duration kSlack = absl::Seconds(3);
// Who tries to join for so long must be in.
inline constexpr absl::Duration kHeal = absl::Seconds(14);
// From the end of the coming and going.
inline constexpr absl::Duration kUntilQuiet = absl::Seconds(16);
inline constexpr absl::Duration kToPost = absl::Seconds(5);
inline constexpr absl::Duration kToReach = absl::Seconds(10);
// An agent does not learn of two changes of its group within less.
inline constexpr absl::Duration kBetweenChanges = absl::Milliseconds(50);

// The number of the device that a worker of this name sends from.
int Digit(std::string_view name);

// Where tensors of `from` arrive at `to`.
DeviceMap MapBetween(std::string_view from, std::string_view to);

// One thread uses it.
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
  // The time on which all agree, whenever they were started.
  bool FindStart();

  std::string NameNow();

  AgentOptions Options(const std::string& name);

  void CheckInTime(std::string_view what, absl::Time deadline);

  // Null when the time is over.
  std::unique_ptr<EchoAgent> Join();

  // With maps that are not one to one: nothing of it may stay.
  void FailToJoin();

  void CallAround(EchoAgent& agent, absl::Time until);

  // Of those next to it in the list, or of all: so connections are used again,
  // and it is seen what becomes of them when the other one leaves.
  const WorkerInfo& Somebody(const std::vector<WorkerInfo>& members);

  Future Send(EchoAgent& agent, const std::string& to, const CallSpec& spec);

  void CheckPrompt(const std::string& what, absl::Time since);

  void CheckLookUps(EchoAgent& agent, const std::string& name);

  void CheckCall(const absl::Status& status, const std::string& to);

  void CheckMaps(EchoAgent& agent, const std::string& of);

  void LookForSomebody(EchoAgent& agent);

  void Go(EchoAgent& agent);

  // group_end.cc: when nobody comes or goes any more

  void SleepUntil(absl::Time time) { worker_.runtime().SleepUntil(time); }

  bool Post(const std::string& key, const std::string& value, absl::Time until);

  std::string Read(const std::string& key, absl::Time until);

  static std::string ViewOf(EchoAgent& agent);

  void StayAndAgree(EchoAgent& agent);

  // Those that come after it, round a ring.
  std::map<int, std::string> NextOf(const std::map<int, std::string>& there);

  // Who could not be reached, and why.
  std::map<int, std::string> Reach(EchoAgent& agent,
                                   const std::map<int, std::string>& there,
                                   absl::Time until);

  void CheckDevices(EchoAgent& agent);

  Worker& worker_;
  const std::shared_ptr<Store> store_;
  RandomStream random_;
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

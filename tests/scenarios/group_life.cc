#include "tests/scenarios/group_life.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <memory>
#include <set>
#include <string_view>
#include <utility>

#include "agent/store/store.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr absl::Duration kCallTimeout = absl::Seconds(1);
constexpr absl::Duration kJoinTimeout = absl::Seconds(4);
constexpr absl::Duration kLeaveTimeout = absl::Seconds(15);
constexpr absl::Duration kAccess = absl::Seconds(1);
constexpr absl::Duration kLease = absl::Seconds(2);
// For who may stand still.
constexpr absl::Duration kSlack = absl::Seconds(3);
// Who tries to join for so long must be in.
constexpr absl::Duration kHeal = absl::Seconds(14);
// From the end of the coming and going.
constexpr absl::Duration kUntilQuiet = absl::Seconds(16);
constexpr absl::Duration kToPost = absl::Seconds(5);
constexpr absl::Duration kToReach = absl::Seconds(10);
// An agent does not learn of two changes of its group within less.
constexpr absl::Duration kBetweenChanges = absl::Milliseconds(50);

// "w2", "w3-x": half of the names have a dash.
std::string BaseName(int rank) {
  return "w" + std::to_string(rank) + (rank % 2 == 1 ? "-x" : "");
}

int Digit(std::string_view name) {
  unsigned sum = 0;
  for (const char c : name) sum = sum * 31 + static_cast<unsigned char>(c);
  return static_cast<int>(sum % 5);
}

// Where tensors of `from` arrive at `to`.
DeviceMap MapBetween(std::string_view from, std::string_view to) {
  return {{Device{"cuda", Digit(from)}, Device{"cuda", 5 + Digit(to)}}};
}

DeviceMap Inverse(const DeviceMap& map) {
  DeviceMap inverse;
  for (const auto& [ours, theirs] : map) inverse[theirs] = ours;
  return inverse;
}

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

  void Live() {
    if (!FindStart()) return;
    end_ = start_ + absl::Milliseconds(worker_.param("active_ms"));
    if (worker_.incarnation() > 0) worker_.Reached("came back");
    int lives = static_cast<int>(random_.Between(1, worker_.param("lives")));
    // One stays all the time.
    if (worker_.rank() == 0) lives = 1;
    worker_.Sleep(
        DrawDuration(random_, worker_.incarnation() == 0 && !random_.OneIn(3)
                                  ? absl::Seconds(1)
                                  : absl::Milliseconds(1)));
    while (worker_.runtime().Now() < end_) {
      std::unique_ptr<EchoAgent> agent = Join();
      if (agent == nullptr) break;
      ++life_;
      --lives;
      const absl::Time until =
          lives > 0
              ? std::min(
                    end_,
                    worker_.In(DrawDuration(
                        random_, absl::Milliseconds(worker_.param("life_ms")))))
              : end_;
      CallAround(*agent, until);
      if (lives <= 0) {
        StayAndAgree(*agent);
        return;
      }
      Go(*agent);
      worker_.Sleep(DrawDuration(random_, absl::Milliseconds(500)));
    }
    worker_.Reached("was out in the end");
  }

 private:
  // The time on which all agree, whenever they were started.
  bool FindStart() {
    const absl::Time deadline = worker_.In(absl::Seconds(20));
    const std::string now =
        std::to_string(absl::ToUnixNanos(worker_.runtime().Now()));
    while (worker_.runtime().Now() < deadline) {
      const absl::StatusOr<std::string> start =
          store_->CompareSet("scenario/start", "", now, worker_.In(kAccess));
      if (start.ok()) {
        int64_t ns = 0;
        std::from_chars(start->data(), start->data() + start->size(), ns);
        start_ = absl::FromUnixNanos(ns);
        return true;
      }
      worker_.Sleep(absl::Milliseconds(50));
    }
    return false;
  }

  std::string NameNow() {
    std::string name = BaseName(worker_.rank());
    if (worker_.param("renames") != 0 && random_.OneIn(3)) name += ":b";
    return name;
  }

  AgentOptions Options(const std::string& name) {
    AgentOptions options = worker_.options();
    options.name = name;
    options.world_size = kDynamicGroup;
    // Beyond those that are given to who asks for none.
    options.id = worker_.rank() + worker_.world_size();
    if (worker_.param("renames") == 0 && random_.OneIn(4)) options.id = kAnyId;
    options.rpc_timeout = kCallTimeout;
    options.connect_timeout = absl::Seconds(2);
    options.store_timeout = absl::Seconds(1);
    options.token_lease = kLease;
    options.membership_refresh = refresh_;
    if (const int64_t seconds = worker_.param("keepalive_s"); seconds != 0) {
      options.keepalive_interval = absl::Seconds(seconds);
      options.keepalive_bound = 3 * options.keepalive_interval;
    }
    if (has_maps_) {
      for (int rank = 0; rank < worker_.world_size(); ++rank) {
        for (const char* suffix : {"", ":b"}) {
          const std::string to = BaseName(rank) + suffix;
          options.device_maps[to] = MapBetween(name, to);
        }
      }
      if (worker_.rank() == 0) {
        options.devices = {Device{"cuda", Digit(name)},
                           Device{"cuda", 5 + Digit(name)}};
      }
    }
    return options;
  }

  void CheckInTime(std::string_view what, absl::Time deadline) {
    const absl::Duration late = worker_.runtime().Now() - deadline;
    worker_.Check(late <= kSlack, "in-time",
                  std::string(what) + " returned " +
                      absl::FormatDuration(late) + " after its deadline");
  }

  // Null when the time is over.
  std::unique_ptr<EchoAgent> Join() {
    if (has_maps_ && met_first_ && random_.OneIn(4)) FailToJoin();
    const absl::Time since = worker_.runtime().Now();
    while (worker_.runtime().Now() < end_) {
      const AgentOptions options = Options(NameNow());
      const absl::Time deadline =
          worker_.In(!is_graceful_ && random_.OneIn(4)
                         ? DrawDuration(random_, kJoinTimeout)
                         : kJoinTimeout);
      auto agent = EchoAgent::Start(worker_, options, deadline, ++starts_);
      CheckInTime("a join", deadline);
      if (agent.ok()) {
        name_ = options.name;
        if (life_ > 0) worker_.Reached("joined again");
        return *std::move(agent);
      }
      worker_.Reached("could not join");
      const absl::Status& status = agent.status();
      worker_.Check(
          absl::IsDeadlineExceeded(status) || absl::IsAlreadyExists(status),
          "joins", status.ToString());
      const absl::Duration tried = worker_.runtime().Now() - since;
      worker_.Check(tried <= kHeal, "joins",
                    "not in after " + absl::FormatDuration(tried) + ": " +
                        status.ToString());
      worker_.Sleep(DrawDuration(random_, absl::Milliseconds(300)));
    }
    return nullptr;
  }

  // With maps that are not one to one: nothing of it may stay.
  void FailToJoin() {
    AgentOptions options = Options(BaseName(worker_.rank()));
    // Sound by itself, but the first one has no such device.
    options.device_maps[BaseName(0)].begin()->second.index = 99;
    const absl::Time deadline = worker_.In(kJoinTimeout);
    auto agent = EchoAgent::Start(worker_, options, deadline, ++starts_);
    CheckInTime("a join", deadline);
    if (!worker_.Check(!agent.ok(), "maps", "a map to no device is taken")) {
      return;
    }
    if (absl::IsInvalidArgument(agent.status())) {
      worker_.Reached("was refused for its maps");
      if (is_graceful_) {
        const absl::StatusOr<std::string> token =
            store_->TryGet("RpcGroupManagementToken", worker_.In(kAccess));
        worker_.Check(
            !token.ok() || *token != "Token_for_" + options.name + "_join",
            "token", "a join that failed has kept it");
      }
    } else {
      worker_.Check(absl::IsDeadlineExceeded(agent.status()) ||
                        absl::IsAlreadyExists(agent.status()),
                    "joins", agent.status().ToString());
    }
  }

  void CallAround(EchoAgent& agent, absl::Time until) {
    while (worker_.runtime().Now() < until) {
      const absl::Time since = worker_.runtime().Now();
      const std::vector<WorkerInfo> members = agent.agent().GetWorkerInfos();
      CheckPrompt("to see who is there", since);
      if (!members.empty()) {
        WorkerInfo to = Somebody(members);
        // Now and then one that may not be there.
        if (random_.OneIn(10)) {
          to.name = BaseName(static_cast<int>(
              random_.Below(static_cast<uint64_t>(worker_.world_size()))));
        }
        CallSpec spec = agent.NewCall();
        if (random_.OneIn(2)) {
          spec.work = DrawDuration(random_, absl::Milliseconds(100));
        }
        CheckCall(agent.Await(Send(agent, to.name, spec), spec), to.name);
        for (const WorkerInfo& member : members) {
          met_first_ = met_first_ || member.name == BaseName(0);
        }
        if (has_maps_) CheckMaps(agent, to.name);
      }
      CheckLookUps(agent, BaseName(looks_++ % worker_.world_size()));
      if (random_.OneIn(10)) LookForSomebody(agent);
      worker_.Sleep(std::min(
          DrawDuration(random_, absl::Milliseconds(worker_.param("pause_ms"))),
          std::max(absl::ZeroDuration(), until - worker_.runtime().Now())));
    }
  }

  // Of those next to it in the list, or of all: so connections are used again,
  // and it is seen what becomes of them when the other one leaves.
  const WorkerInfo& Somebody(const std::vector<WorkerInfo>& members) {
    const auto near = static_cast<size_t>(worker_.param("near"));
    if (near == 0 || random_.OneIn(10)) {
      return members[random_.Below(members.size())];
    }
    const auto self = std::find_if(
        members.begin(), members.end(),
        [this](const WorkerInfo& member) { return member.name == name_; });
    const auto index = static_cast<size_t>(self - members.begin());
    return members[(index + random_.Below(near + 1)) % members.size()];
  }

  Future Send(EchoAgent& agent, const std::string& to, const CallSpec& spec) {
    const absl::Time since = worker_.runtime().Now();
    Future call = agent.Send(to, spec);
    CheckPrompt("to send a call to " + to, since);
    return call;
  }

  void CheckPrompt(const std::string& what, absl::Time since) {
    const absl::Duration took = worker_.runtime().Now() - since;
    worker_.Check(took <= absl::Milliseconds(worker_.param("send_ms")),
                  "prompt", what + " took " + absl::FormatDuration(took));
  }

  void CheckLookUps(EchoAgent& agent, const std::string& name) {
    const absl::Time since = worker_.runtime().Now();
    const absl::StatusOr<WorkerInfo> before = agent.agent().GetWorkerInfo(name);
    if (!before.ok()) return;
    const absl::StatusOr<WorkerInfo> found =
        agent.agent().GetWorkerInfo(before->id);
    const absl::StatusOr<WorkerInfo> after = agent.agent().GetWorkerInfo(name);
    // It was there all the time, unless that was long enough to go and come.
    if (!after.ok() || after->id != before->id ||
        worker_.runtime().Now() - since > kBetweenChanges) {
      return;
    }
    worker_.Check(found.ok() && found->name == name, "look-up",
                  name + " is worker " + std::to_string(before->id) +
                      ", and that one is " +
                      (found.ok() ? found->name : found.status().ToString()));
  }

  void CheckCall(const absl::Status& status, const std::string& to) {
    if (status.ok()) return;
    if (absl::IsNotFound(status))
      worker_.Reached("called one that was not there");
    if (is_graceful_) {
      // The first one stays, and stays known.
      worker_.Check(
          absl::IsNotFound(status) && !(met_first_ && to == BaseName(0)),
          "graceful", to + ": " + status.ToString());
      return;
    }
    worker_.Check(absl::IsUnavailable(status) ||
                      absl::IsDeadlineExceeded(status) ||
                      absl::IsNotFound(status),
                  "call", status.ToString());
  }

  void CheckMaps(EchoAgent& agent, const std::string& of) {
    const absl::StatusOr<DeviceMap> map = agent.agent().GetReverseDeviceMap(of);
    if (!map.ok()) return;  // it has just left
    worker_.Check(*map == Inverse(MapBetween(of, name_)), "maps",
                  "replies to " + of + " go astray: " +
                      std::to_string(map->size()) + " entries");
  }

  void LookForSomebody(EchoAgent& agent) {
    const int rank = static_cast<int>(
        random_.Below(static_cast<uint64_t>(worker_.world_size())));
    const absl::Time deadline = worker_.In(absl::Milliseconds(300));
    const absl::StatusOr<WorkerInfo> found =
        agent.agent().WaitForWorker(BaseName(rank), deadline);
    CheckInTime("a wait for a worker", deadline);
    if (!found.ok()) {
      worker_.Reached("waited for one in vain");
      worker_.Check(absl::IsDeadlineExceeded(found.status()), "call",
                    found.status().ToString());
    }
  }

  void Go(EchoAgent& agent) {
    if (is_graceful_ || !random_.OneIn(4)) {
      // Some have no time for it.
      const bool in_haste = !is_graceful_ && random_.OneIn(4);
      const absl::Time deadline = worker_.In(
          in_haste ? DrawDuration(random_, absl::Seconds(1)) : leave_timeout_);
      const absl::Status left = agent.agent().Leave(deadline);
      CheckInTime("a leave", deadline);
      if (left.ok()) {
        worker_.Reached("left");
      } else {
        worker_.Check(in_haste && absl::IsDeadlineExceeded(left), "leave",
                      left.ToString());
        worker_.Reached("left too late");
      }
    } else {
      worker_.Reached("went without leaving");
    }
    worker_.CheckOk(agent.Shutdown(absl::Seconds(5)), "shutdown");
  }

  // -- the end, when nobody comes or goes any more

  void SleepUntil(absl::Time time) { worker_.runtime().SleepUntil(time); }

  bool Post(const std::string& key, const std::string& value,
            absl::Time until) {
    while (worker_.runtime().Now() < until) {
      if (store_->Set("scenario/" + key, value, worker_.In(kAccess)).ok()) {
        return true;
      }
      worker_.Sleep(absl::Milliseconds(20));
    }
    return false;
  }

  std::string Read(const std::string& key, absl::Time until) {
    while (worker_.runtime().Now() < until) {
      absl::StatusOr<std::string> value =
          store_->TryGet("scenario/" + key, worker_.In(kAccess));
      if (value.ok()) return *std::move(value);
      if (absl::IsNotFound(value.status())) return "";
      worker_.Sleep(absl::Milliseconds(20));
    }
    return "";
  }

  static std::string ViewOf(EchoAgent& agent) {
    std::string view;
    for (const WorkerInfo& member : agent.agent().GetWorkerInfos()) {
      view += member.name + "/" + std::to_string(member.id) + " ";
    }
    return view;
  }

  void StayAndAgree(EchoAgent& agent) {
    const absl::Time quiet = end_ + kUntilQuiet + refresh_;
    SleepUntil(quiet);
    const std::string view = ViewOf(agent);
    const std::string rank = std::to_string(worker_.rank());
    const bool posted =
        Post("view/" + rank, name_ + "=" + view, quiet + kToPost / 2);
    SleepUntil(quiet + kToPost);
    std::map<int, std::string> there;  // names
    for (int other = 0; other < worker_.world_size(); ++other) {
      const std::string theirs =
          Read("view/" + std::to_string(other), quiet + kToPost + kSlack);
      const size_t equals = theirs.find('=');
      if (equals == std::string::npos) continue;
      there[other] = theirs.substr(0, equals);
      worker_.Check(theirs.substr(equals + 1) == view, "agree",
                    "it sees " + view + "; " + there[other] + " sees " +
                        theirs.substr(equals + 1));
    }
    if (there.size() > 1) worker_.Reached("agreed");
    const absl::Time together = quiet + kToPost + kToReach;
    const std::map<int, std::string> unreached =
        Reach(agent, NextOf(there), together - kCallTimeout);
    if (has_maps_) CheckDevices(agent);
    SleepUntil(together + kSlack);
    if (posted) Post("survived/" + rank, "yes", together + 2 * kSlack);
    SleepUntil(together + 2 * kSlack);
    for (const auto& [other, why] : unreached) {
      worker_.Check(
          Read("survived/" + std::to_string(other), together + 3 * kSlack)
              .empty(),
          "reach", there[other] + " is there, and yet: " + why);
    }
    const absl::Time deadline = worker_.In(leave_timeout_);
    const absl::Status left = agent.agent().JoinForShutdown(deadline);
    CheckInTime("a leave", deadline);
    worker_.CheckOk(left, "leave");
    worker_.CheckOk(agent.Shutdown(absl::Seconds(5)), "shutdown");
  }

  // Those that come after it, round a ring.
  std::map<int, std::string> NextOf(const std::map<int, std::string>& there) {
    std::map<int, std::string> next;
    auto it = there.upper_bound(worker_.rank());
    for (size_t left = std::min(there.size(),
                                static_cast<size_t>(worker_.param("reach")));
         left > 0; --left) {
      if (it == there.end()) it = there.begin();
      next.insert(*it++);
    }
    return next;
  }

  // Who could not be reached, and why.
  std::map<int, std::string> Reach(EchoAgent& agent,
                                   const std::map<int, std::string>& there,
                                   absl::Time until) {
    std::map<int, std::string> unreached;
    for (const auto& [rank, name] : there) unreached[rank] = "never called";
    while (!unreached.empty() && worker_.runtime().Now() < until) {
      std::vector<std::pair<int, std::pair<Future, CallSpec>>> calls;
      for (const auto& [rank, why] : unreached) {
        CallSpec spec = agent.NewCall();
        calls.push_back({rank, {agent.Send(there.at(rank), spec), spec}});
      }
      for (const auto& [rank, call] : calls) {
        const absl::Status status = agent.Await(call.first, call.second);
        if (status.ok()) {
          unreached.erase(rank);
        } else {
          unreached[rank] = status.ToString();
        }
      }
      if (!unreached.empty()) worker_.Sleep(absl::Milliseconds(100));
    }
    return unreached;
  }

  void CheckDevices(EchoAgent& agent) {
    if (worker_.rank() == 0) return;
    std::set<Device> expected = {Device{"cuda", Digit(name_)}};
    for (const WorkerInfo& member : agent.agent().GetWorkerInfos()) {
      expected.insert(MapBetween(member.name, name_).begin()->second);
      CheckMaps(agent, member.name);
    }
    const std::vector<Device> devices = agent.agent().GetDevices();
    worker_.Check(
        std::vector<Device>(expected.begin(), expected.end()) == devices,
        "maps",
        "it uses " + std::to_string(devices.size()) + " devices instead of " +
            std::to_string(expected.size()));
  }

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

}  // namespace

void LiveInAGroup(Worker& worker) { GroupMember(worker).Live(); }

}  // namespace reprise::scenarios

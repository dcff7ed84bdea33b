// The end of a scenario of groups: all members that are there stay, must agree
// on who is there, and must reach each other. Then they leave.

#include <algorithm>
#include <set>
#include <utility>

#include "tests/scenarios/group_member.h"

namespace reprise::scenarios {

bool GroupMember::Post(const std::string& key, const std::string& value,
                       absl::Time until) {
  while (worker_.runtime().Now() < until) {
    if (store_->Set("scenario/" + key, value, worker_.In(kAccess)).ok()) {
      return true;
    }
    worker_.Sleep(absl::Milliseconds(20));
  }
  return false;
}

std::string GroupMember::Read(const std::string& key, absl::Time until) {
  while (worker_.runtime().Now() < until) {
    absl::StatusOr<std::string> value =
        store_->TryGet("scenario/" + key, worker_.In(kAccess));
    if (value.ok()) return *std::move(value);
    if (absl::IsNotFound(value.status())) return "";
    worker_.Sleep(absl::Milliseconds(20));
  }
  return "";
}

std::string GroupMember::ViewOf(EchoAgent& agent) {
  std::string view;
  for (const WorkerInfo& member : agent.agent().GetWorkerInfos()) {
    view += member.name + "/" + std::to_string(member.id) + " ";
  }
  return view;
}

void GroupMember::StayAndAgree(EchoAgent& agent) {
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

std::map<int, std::string> GroupMember::NextOf(
    const std::map<int, std::string>& there) {
  std::map<int, std::string> next;
  auto it = there.upper_bound(worker_.rank());
  for (size_t left =
           std::min(there.size(), static_cast<size_t>(worker_.param("reach")));
       left > 0; --left) {
    if (it == there.end()) it = there.begin();
    next.insert(*it++);
  }
  return next;
}

std::map<int, std::string> GroupMember::Reach(
    EchoAgent& agent, const std::map<int, std::string>& there,
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

void GroupMember::CheckDevices(EchoAgent& agent) {
  if (worker_.rank() == 0) return;
  std::set<Device> expected = {Device{"cuda", Digit(name_)}};
  for (const WorkerInfo& member : agent.agent().GetWorkerInfos()) {
    expected.insert(MapBetween(member.name, name_).begin()->second);
    CheckMaps(agent, member.name);
  }
  const std::vector<Device> devices = agent.agent().GetDevices();
  worker_.Check(
      std::vector<Device>(expected.begin(), expected.end()) == devices, "maps",
      "it uses " + std::to_string(devices.size()) + " devices instead of " +
          std::to_string(expected.size()));
}

}  // namespace reprise::scenarios

#include "tests/scenarios/group_life.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "tests/scenarios/group_member.h"
#include "tests/scenarios/swarm.h"

namespace reprise::scenarios {
namespace {

// "w2", "w3-x": half of the names have a dash.
std::string BaseName(int rank) {
  return "w" + std::to_string(rank) + (rank % 2 == 1 ? "-x" : "");
}

DeviceMap Inverse(const DeviceMap& map) {
  DeviceMap inverse;
  for (const auto& [ours, theirs] : map) inverse[theirs] = ours;
  return inverse;
}

}  // namespace

int Digit(std::string_view name) {
  unsigned sum = 0;
  for (const char c : name) sum = sum * 31 + static_cast<unsigned char>(c);
  return static_cast<int>(sum % 5);
}

DeviceMap MapBetween(std::string_view from, std::string_view to) {
  return {{Device{"cuda", Digit(from)}, Device{"cuda", 5 + Digit(to)}}};
}

void GroupMember::Live() {
  if (!FindStart()) return;
  end_ = start_ + absl::Milliseconds(worker_.param("active_ms"));
  if (worker_.incarnation() > 0) worker_.Reached("came back");
  int lives =
      static_cast<int>(random_.Between("lives", 1, worker_.param("lives")));
  // Worker 0 stays all the time.
  if (worker_.rank() == 0) lives = 1;
  worker_.Sleep(DrawDuration(
      random_, "start",
      worker_.incarnation() == 0 && !random_.OneIn("starts at once", 3)
          ? absl::Seconds(1)
          : absl::Milliseconds(1)));
  while (worker_.runtime().Now() < end_) {
    std::unique_ptr<EchoAgent> agent = Join();
    if (agent == nullptr) break;
    ++life_;
    --lives;
    const absl::Time until =
        lives > 0
            ? std::min(end_, worker_.In(DrawDuration(
                                 random_, "life",
                                 absl::Milliseconds(worker_.param("life_ms")))))
            : end_;
    CallAround(*agent, until);
    if (lives <= 0) {
      StayAndAgree(*agent);
      return;
    }
    Go(*agent);
    worker_.Sleep(DrawDuration(random_, "out", absl::Milliseconds(500)));
  }
  worker_.Reached("was out in the end");
}

bool GroupMember::FindStart() {
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

std::string GroupMember::NameNow() {
  std::string name = BaseName(worker_.rank());
  if (worker_.param("renames") != 0 && random_.OneIn("other name", 3))
    name += ":b";
  return name;
}

AgentOptions GroupMember::Options(const std::string& name) {
  AgentOptions options = worker_.options();
  options.name = name;
  options.world_size = kDynamicGroup;
  // Above the ids that workers get which ask for none.
  options.id = worker_.rank() + worker_.world_size();
  if (worker_.param("renames") == 0 && random_.OneIn("any id", 4))
    options.id = kAnyId;
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

void GroupMember::CheckInTime(std::string_view what, absl::Time deadline) {
  const absl::Duration late = worker_.runtime().Now() - deadline;
  worker_.Check(late <= kSlack, "in-time",
                std::string(what) + " returned " + absl::FormatDuration(late) +
                    " after its deadline");
}

std::unique_ptr<EchoAgent> GroupMember::Join() {
  if (has_maps_ && met_first_ && random_.OneIn("joins in vain", 4))
    FailToJoin();
  const absl::Time since = worker_.runtime().Now();
  while (worker_.runtime().Now() < end_) {
    const AgentOptions options = Options(NameNow());
    const absl::Time deadline =
        worker_.In(!is_graceful_ && random_.OneIn("joins in haste", 4)
                       ? DrawDuration(random_, "join timeout", kJoinTimeout)
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
    worker_.Sleep(DrawDuration(random_, "next try", absl::Milliseconds(300)));
  }
  return nullptr;
}

void GroupMember::FailToJoin() {
  AgentOptions options = Options(BaseName(worker_.rank()));
  // Valid by itself, but worker 0 has no such device.
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

void GroupMember::CallAround(EchoAgent& agent, absl::Time until) {
  while (worker_.runtime().Now() < until) {
    const absl::Time since = worker_.runtime().Now();
    const std::vector<WorkerInfo> members = agent.agent().GetWorkerInfos();
    CheckPrompt("to see who is there", since);
    if (!members.empty()) {
      WorkerInfo to = Somebody(members);
      // Now and then a worker that may not be there.
      if (random_.OneIn("calls anybody", 10)) {
        to.name = BaseName(static_cast<int>(random_.Below(
            "anybody", static_cast<uint64_t>(worker_.world_size()))));
      }
      CallSpec spec = agent.NewCall();
      if (random_.OneIn("works", 2)) {
        spec.work = DrawDuration(random_, "work", absl::Milliseconds(100));
      }
      CheckCall(agent.Await(Send(agent, to.name, spec), spec), to.name);
      for (const WorkerInfo& member : members) {
        met_first_ = met_first_ || member.name == BaseName(0);
      }
      if (has_maps_) CheckMaps(agent, to.name);
    }
    CheckLookUps(agent, BaseName(looks_++ % worker_.world_size()));
    if (random_.OneIn("looks", 10)) LookForSomebody(agent);
    worker_.Sleep(std::min(
        DrawDuration(random_, "pause",
                     absl::Milliseconds(worker_.param("pause_ms"))),
        std::max(absl::ZeroDuration(), until - worker_.runtime().Now())));
  }
}

const WorkerInfo& GroupMember::Somebody(
    const std::vector<WorkerInfo>& members) {
  const auto near = static_cast<size_t>(worker_.param("near"));
  if (near == 0 || random_.OneIn("far", 10)) {
    return members[random_.Below("member", members.size())];
  }
  const auto self = std::find_if(
      members.begin(), members.end(),
      [this](const WorkerInfo& member) { return member.name == name_; });
  const auto index = static_cast<size_t>(self - members.begin());
  return members[(index + random_.Below("neighbour", near + 1)) %
                 members.size()];
}

Future GroupMember::Send(EchoAgent& agent, const std::string& to,
                         const CallSpec& spec) {
  const absl::Time since = worker_.runtime().Now();
  Future call = agent.Send(to, spec);
  CheckPrompt("to send a call to " + to, since);
  return call;
}

void GroupMember::CheckPrompt(const std::string& what, absl::Time since) {
  const absl::Duration took = worker_.runtime().Now() - since;
  worker_.Check(took <= absl::Milliseconds(worker_.param("send_ms")), "prompt",
                what + " took " + absl::FormatDuration(took));
}

void GroupMember::CheckLookUps(EchoAgent& agent, const std::string& name) {
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

void GroupMember::CheckCall(const absl::Status& status, const std::string& to) {
  if (status.ok()) return;
  if (absl::IsNotFound(status)) {
    worker_.Reached("called one that was not there");
  }
  if (is_graceful_) {
    // Worker 0 stays, and the others go on seeing it.
    worker_.Check(
        absl::IsNotFound(status) && !(met_first_ && to == BaseName(0)),
        "graceful", to + ": " + status.ToString());
    return;
  }
  worker_.Check(absl::IsUnavailable(status) ||
                    absl::IsDeadlineExceeded(status) ||
                    absl::IsNotFound(status) || IsShortOfMemory(status),
                "call", status.ToString());
}

void GroupMember::CheckMaps(EchoAgent& agent, const std::string& of) {
  const absl::StatusOr<DeviceMap> map = agent.agent().GetReverseDeviceMap(of);
  if (!map.ok()) return;  // it has just left
  worker_.Check(*map == Inverse(MapBetween(of, name_)), "maps",
                "replies to " + of +
                    " go astray: " + std::to_string(map->size()) + " entries");
}

void GroupMember::LookForSomebody(EchoAgent& agent) {
  const int rank = static_cast<int>(
      random_.Below("looked for", static_cast<uint64_t>(worker_.world_size())));
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

void GroupMember::Go(EchoAgent& agent) {
  if (is_graceful_ || !random_.OneIn("leaves without a word", 4)) {
    // Some have no time for it.
    const bool in_haste = !is_graceful_ && random_.OneIn("leaves in haste", 4);
    const absl::Time deadline = worker_.In(
        in_haste ? DrawDuration(random_, "leave timeout", absl::Seconds(1))
                 : leave_timeout_);
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

void LiveInAGroup(Worker& worker) { GroupMember(worker).Live(); }

}  // namespace reprise::scenarios

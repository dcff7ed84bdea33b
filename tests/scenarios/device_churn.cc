// Workers with GPUs join a group, call each other, leave, die and come back,
// while their GPUs run out of memory, fail, stall and are lost. A call may fail
// then; what succeeds is right, and every agent that is still there works when
// all is over.

#include <array>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "sim/scenario/scenario.h"
#include "tests/scenarios/gpu_agent.h"
#include "tests/scenarios/gpu_work.h"

namespace reprise::scenarios {
namespace {

constexpr int kWorkers = 3;
constexpr int kLives = 3;  // of each incarnation of a worker
constexpr int kCalls = 6;  // of each life
constexpr int64_t kLongest = 3000;
constexpr absl::Duration kCallTimeout = absl::Seconds(2);
constexpr absl::Duration kLeaveTimeout = absl::Seconds(20);
// From the start of a worker: all faults that end have ended by then.
constexpr absl::Duration kHealed = absl::Seconds(6);
// An agent must work again so long after that.
constexpr absl::Duration kHeal = absl::Seconds(30);

class Member {
 public:
  explicit Member(Worker& worker)
      : worker_(worker),
        random_(worker.random(absl::StrCat("churn ", worker.incarnation()))) {}

  void Live() {
    if (worker_.incarnation() > 0) worker_.Reached("came back");
    const absl::Time healed = worker_.In(kHealed);
    for (int life = 1; life <= kLives; ++life) {
      GpuWork work(worker_);
      const std::unique_ptr<GpuAgent> agent = Join(work);
      if (agent == nullptr) return;
      for (int i = 0; i < kCalls; ++i) {
        CallSomebody(work, *agent);
        worker_.Sleep(absl::Milliseconds(random_.Between("pause", 0, 200)));
      }
      if (life == kLives) {
        // The agent that has seen the faults is the one that must work.
        worker_.runtime().SleepUntil(healed);
        CheckWorks(work, *agent);
      }
      Go(agent->agent(), life);
    }
  }

 private:
  std::unique_ptr<GpuAgent> Join(GpuWork& work) {
    AgentOptions options = worker_.options();
    options.world_size = kDynamicGroup;
    options.rpc_timeout = kCallTimeout;
    options.connect_timeout = absl::Seconds(2);
    options.store_timeout = absl::Seconds(2);
    options.token_lease = absl::Seconds(2);
    options.membership_refresh = absl::Milliseconds(500);
    for (int rank = 0; rank < worker_.world_size(); ++rank) {
      const int other = (rank + worker_.rank()) % 2;
      options.device_maps[worker_.NameOf(rank)] = {
          {GpuDevice(0), GpuDevice(other)},
          {GpuDevice(1), GpuDevice(1 - other)}};
    }
    options.transport.channels = DrawGpuChannels(random_.Part("channels"));
    // What a worker that died has left may keep it out for a while.
    const absl::Time late = worker_.In(kHeal);
    while (true) {
      auto agent =
          GpuAgent::Start(worker_, work, options, worker_.In(absl::Seconds(5)));
      if (agent.ok()) return *std::move(agent);
      worker_.Reached("could not join");
      if (!worker_.Check(worker_.runtime().Now() < late, "joins",
                         agent.status().ToString())) {
        return nullptr;
      }
      worker_.Sleep(absl::Milliseconds(100));
    }
  }

  // The status of the call, or of the GPUs; a reply with other bytes fails the
  // run.
  absl::Status Call(GpuWork& work, GpuAgent& agent, const std::string& to,
                    bool on_gpu) {
    const int gpu = static_cast<int>(random_.Below("gpu", 2));
    const Device device = on_gpu ? GpuDevice(gpu) : CpuDevice();
    GpuStream stream{gpu, GpuStream::kDefault};
    if (on_gpu && random_.OneIn("own stream", 2)) {
      const auto made = work.NewStream(gpu);
      if (!made.ok()) return made.status();
      stream = *made;
    }
    const std::string bytes =
        BytesOf(random_.Bits("content"), random_.Between("bytes", 1, kLongest));
    auto tensor = work.Make(device, stream, bytes);
    if (!tensor.ok()) return tensor.status();
    Message request;
    request.tensors = {*std::move(tensor)};
    request.streams = on_gpu ? Only(stream) : StreamSet();
    const GpuCall call{.turn = random_.Between("turn", 0, kLongest),
                       .way = random_.Between("way", 0, GpuCall::kNumWays - 1)};
    const Future reply = agent.Send(to, call, std::move(request));
    if (!reply.status().ok()) return reply.status();
    absl::Status status = reply.Synchronize(work.devices());
    if (!status.ok()) return status;
    const auto read = work.Read(reply.result()->tensors[0], stream);
    if (!read.ok()) return read.status();
    worker_.Check(*read == Turned(bytes, call.turn), "content",
                  "a tensor came back with other bytes");
    return absl::OkStatus();
  }

  void CallSomebody(GpuWork& work, GpuAgent& agent) {
    const std::vector<WorkerInfo> members = agent.agent().GetWorkerInfos();
    const std::string& to =
        members[random_.Below("member", members.size())].name;
    const bool on_gpu = !random_.OneIn("on the CPU", 4);
    const absl::Status status = Call(work, agent, to, on_gpu);
    if (status.ok()) {
      if (on_gpu && to != worker_.name()) worker_.Reached("called by GPU");
      return;
    }
    worker_.Reached(
        absl::StrCat("failed: ", absl::StatusCodeToString(status.code())));
  }

  // Calls itself until it works. Without GPUs, those on CPUs must.
  void CheckWorks(GpuWork& work, GpuAgent& agent) {
    for (const bool on_gpu : {false, true}) {
      const absl::Time late = worker_.In(kHeal);
      while (true) {
        const absl::Status status = Call(work, agent, worker_.name(), on_gpu);
        if (status.ok()) break;
        if (on_gpu && HasLost(work)) {
          worker_.Reached("works without its GPUs");
          break;
        }
        if (!worker_.Check(worker_.runtime().Now() < late, "usable",
                           status.ToString())) {
          return;
        }
        worker_.Sleep(absl::Milliseconds(100));
      }
    }
    worker_.Reached("works");
  }

  static bool HasLost(GpuWork& work) {
    for (int gpu = 0; gpu < work.devices().gpu_count(); ++gpu) {
      const auto stream = work.NewStream(gpu);
      if (absl::IsUnavailable(stream.status())) return true;
    }
    return false;
  }

  void Go(Agent& agent, int life) {
    if (life == kLives || !random_.OneIn("goes without leaving", 3)) {
      const absl::Status left = agent.Leave(worker_.In(kLeaveTimeout));
      worker_.Check(left.ok() || absl::IsDeadlineExceeded(left), "leave",
                    left.ToString());
      if (left.ok()) worker_.Reached("left");
    } else {
      worker_.Reached("went without leaving");
    }
    worker_.CheckOk(agent.Shutdown(worker_.In(absl::Seconds(30))), "shutdown");
  }

  Worker& worker_;
  Draws random_;
};

void DeviceChurn(Worker& worker) {
  if (worker.environment().devices == nullptr) {
    return worker.Note("this worker has no GPUs");
  }
  Member(worker).Live();
}

std::string AtSomePoint(Draws random, const std::string& worker) {
  if (random.OneIn("at a time", 3)) {
    return absl::StrCat(" after ", random.Between("time", 1, 3000), "ms");
  }
  const char* const event =
      random.OneIn("at a put", 2) ? "gpu.put" : "gpu.done";
  return absl::StrCat(" when ", worker, " ", event, "#",
                      random.Between("count", 1, 120));
}

std::vector<std::string> GpusFail(Draws random,
                                  const ScenarioParams& /*params*/) {
  constexpr std::array kKinds = {
      "gpu-no-memory", "gpu-copy-fails", "gpu-stall", "gpu-lost",
      "gpu-no-peer",   "gpu-no-ipc",     "crash",     "cut"};
  std::vector<std::string> lines;
  for (int64_t left = random.Between("faults", 1, 3); left > 0; --left) {
    const auto victim = static_cast<int64_t>(random.Below("victim", kWorkers));
    const std::string worker = absl::StrCat("w", victim);
    const std::string kind = kKinds[random.Below("kind", kKinds.size())];
    if (kind == "gpu-no-peer") {
      // What GPUs can do with each other is a property of their host: the same
      // for all of its processes, and from the start.
      for (int rank = 0; rank < kWorkers; ++rank) {
        lines.push_back(
            absl::StrCat("gpu-no-peer w", rank, " after 0s for ever"));
      }
      continue;
    }
    std::string line = absl::StrCat(kind, " ", worker);
    if (kind == "cut") {
      absl::StrAppend(&line, "-w", (victim + 1) % kWorkers);
    }
    line += AtSomePoint(random.Part("at"), worker);
    if (kind == "crash") {
      if (!random.OneIn("stays away", 4)) {
        absl::StrAppend(&line, " restart ", random.Between("restart", 1, 1500),
                        "ms");
      }
    } else if (kind == "cut") {
      line += random.OneIn("reset", 2) ? " reset" : " eof";
    } else if (kind != "gpu-copy-fails" && kind != "gpu-lost") {
      absl::StrAppend(&line, " for ", random.Between("length", 1, 2000), "ms");
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

REPRISE_SCENARIO(
    device_churn,
    {.description = "workers come and go, and their GPUs fail",
     .workers = kWorkers,
     .body = DeviceChurn,
     .faults = GpusFail,
     .probes = {"called by GPU", "came back", "left", "went without leaving",
                "works", "works without its GPUs"},
     .fault_kinds = {"gpu-no-memory", "gpu-copy-fails", "gpu-stall", "gpu-lost",
                     "gpu-no-peer", "gpu-no-ipc", "crash", "cut"},
     .max_time = absl::Minutes(5),
     .settle_time = absl::Minutes(3),
     .gpus_per_host = 2,
     .hosts = {0, 0, 1}});

}  // namespace
}  // namespace reprise::scenarios

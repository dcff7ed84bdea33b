// Workers on one host copy tensors out of each other's memory, by the channel
// cma, while they are paused, lose their links and die. Each uses the memory of
// a tensor for something else as soon as its agent has let go of it. Whatever
// arrives is what was sent.
//
//  call   a call fails only for a short timeout of its own or, where there are
//         faults, for a connection that broke
//
// `reused_memory_calm` does it without faults, and `reused_memory_lanes`
// between hosts, over the many connections of the channel mpt_uv.

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/device/device.h"
#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr absl::Duration kInterval = absl::Milliseconds(200);
constexpr absl::Duration kBound = absl::Milliseconds(600);
constexpr int64_t kLongest = 200'000;
// Those that cma copies in several pieces, of 4 MiB.
constexpr int64_t kHuge = 4 << 20;
constexpr int64_t kHugest = 5 << 20;

// Memory that is overwritten once nobody needs it, and not given back while
// this object lives.
class Memory {
 public:
  // The same message, with its tensors here.
  Message Move(Message message) {
    for (Tensor& tensor : message.tensors) {
      const size_t size = tensor.storage->num_bytes();
      auto block = std::make_shared<std::string>(
          static_cast<const char*>(tensor.storage->data()), size);
      tensor.storage =
          AdoptCpu(block->data(), size, [blocks = blocks_, size](void* data) {
            std::memset(data, 0xdd, size);
          });
      blocks_->push_back(std::move(block));
    }
    return message;
  }

 private:
  // The worker's thread adds to them; deleters keep them alive.
  using Blocks = std::vector<std::shared_ptr<std::string>>;
  const std::shared_ptr<Blocks> blocks_ = std::make_shared<Blocks>();
};

void ReusedMemory(Worker& worker, const char* channel) {
  Draws random = worker.random(absl::StrCat("calls ", worker.incarnation()));
  AgentOptions options = worker.options();
  options.transport.channels = {channel, "basic"};
  options.keepalive_interval = kInterval;
  options.keepalive_bound = kBound;
  options.connect_timeout = kBound;
  auto agent = EchoAgent::Start(worker, options, worker.In(absl::Minutes(1)));
  // The others may have gone by the time that one is started again.
  if (worker.incarnation() > 0 && absl::IsDeadlineExceeded(agent.status())) {
    return;
  }
  if (!worker.CheckOk(agent.status(), "start")) return;
  const bool has_faults = worker.param("faults") != 0;
  Memory memory;
  struct Pending {
    CallSpec spec;
    Future call;
    bool is_short;
  };
  for (int64_t round = worker.param("rounds"); round > 0; --round) {
    std::vector<Pending> calls;
    for (int64_t left = random.Between("calls", 1, 4); left > 0; --left) {
      const auto to = static_cast<int>(
          random.Below("peer", static_cast<uint64_t>(worker.world_size())));
      CallSpec spec = (*agent)->NewCall();
      for (int64_t i = random.Between("tensors", 1, 2); i > 0; --i) {
        spec.tensors.push_back(
            random.OneIn("huge", 100)
                ? random.Between("huge bytes", kHuge, kHugest)
                : random.Between("bytes", 1, kLongest));
      }
      const bool is_short = random.OneIn("short", 3);
      const absl::Duration timeout =
          is_short ? DrawDuration(random, "timeout", absl::Milliseconds(5))
                   : absl::Seconds(10);
      calls.push_back({spec,
                       (*agent)->agent().Send(worker.NameOf(to),
                                              memory.Move(MakeRequest(spec)),
                                              CallOptions{timeout}),
                       is_short});
    }
    for (const Pending& pending : calls) {
      const absl::Status status = (*agent)->Await(pending.call, pending.spec);
      worker.Reached(absl::StatusCodeToString(status.code()));
      worker.Check(status.ok() ||
                       (pending.is_short && absl::IsDeadlineExceeded(status)) ||
                       (has_faults && absl::IsUnavailable(status)),
                   "call", status.ToString());
    }
    worker.Sleep(DrawDuration(random, "pause", absl::Milliseconds(50)));
  }
  if (has_faults) {
    worker.CheckOk((*agent)->Shutdown(absl::Seconds(30)), "shutdown");
  } else {
    (*agent)->JoinAndShutdown(absl::Minutes(1));
  }
  // Longer than any pause: whoever reads too late finds what was written over
  // the memory, and not what the heap makes of it, which holds addresses.
  worker.Sleep(absl::Seconds(5));
}

void ReusedMemoryOverCma(Worker& worker) { ReusedMemory(worker, "cma"); }
void ReusedMemoryOverLanes(Worker& worker) { ReusedMemory(worker, "mpt_uv"); }

std::vector<std::string> DrawPauses(Draws random, const ScenarioParams&) {
  std::vector<std::string> faults;
  for (int64_t left = random.Between("faults", 1, 3); left > 0; --left) {
    const int64_t worker = random.Between("worker", 0, 1);
    const std::string when =
        absl::StrCat(" after ", random.Between("at", 1, 1500), "ms");
    switch (random.Below("kind", 4)) {
      case 0:
        faults.push_back(absl::StrCat("cut w0-w1", when, " eof"));
        break;
      case 1:
        faults.push_back(absl::StrCat("crash w", worker, when, " restart ",
                                      random.Between("dead", 1, 500), "ms"));
        break;
      default:
        faults.push_back(absl::StrCat("pause w", worker, when, " for ",
                                      random.Between("length", 1, 2000), "ms"));
    }
  }
  return faults;
}

// And what reaches some of a channel's connections only.
std::vector<std::string> DrawForLanes(Draws random,
                                      const ScenarioParams& params) {
  std::vector<std::string> faults = DrawPauses(random.Part("pauses"), params);
  const std::string when =
      absl::StrCat(" after ", random.Between("at", 1, 1500), "ms");
  switch (random.Below("kind", 4)) {
    case 0:
      faults.push_back("refuse w0" + when + " for 50ms");
      break;
    case 1:
      faults.push_back("drop-connect w1" + when);
      break;
    case 2:
      faults.push_back("hold w1>w0" + when + " for 300ms");
      break;
    default:
      break;
  }
  return faults;
}

REPRISE_SCENARIO(
    reused_memory,
    {.description = "tensors copied out of memory that is soon used again",
     .workers = 3,
     .params = {{"rounds", 10}, {"faults", 1}},
     .param_ranges = {{"faults", {1, 1}}},
     .smallest = {{"rounds", 1}},
     .body = ReusedMemoryOverCma,
     .faults = DrawPauses,
     .probes = {"OK", "DEADLINE_EXCEEDED", "UNAVAILABLE"},
     .fault_kinds = {"cut", "crash", "pause"},
     .enough_seeds = 100,
     .max_time = absl::Minutes(5),
     .settle_time = absl::Minutes(1),
     .hosts = {0, 0, 1}});

REPRISE_SCENARIO(
    reused_memory_calm,
    {.description =
         "the same without faults: no call fails but for its timeout",
     .workers = 3,
     .params = {{"rounds", 10}, {"faults", 0}},
     .param_ranges = {{"faults", {0, 0}}},
     .smallest = {{"rounds", 1}},
     .body = ReusedMemoryOverCma,
     .probes = {"OK", "DEADLINE_EXCEEDED"},
     .enough_seeds = 20,
     .max_time = absl::Minutes(5),
     .settle_time = absl::Minutes(5),
     .hosts = {0, 0, 1}});

REPRISE_SCENARIO(
    reused_memory_lanes,
    {.description = "tensors over the many connections of the channel mpt_uv",
     .workers = 3,
     .params = {{"rounds", 10}, {"faults", 1}},
     .param_ranges = {{"faults", {1, 1}}},
     .smallest = {{"rounds", 1}},
     .body = ReusedMemoryOverLanes,
     .faults = DrawForLanes,
     .probes = {"OK", "DEADLINE_EXCEEDED", "UNAVAILABLE"},
     .fault_kinds = {"cut", "crash", "pause", "refuse", "drop-connect", "hold"},
     .enough_seeds = 100,
     .max_time = absl::Minutes(5),
     .settle_time = absl::Minutes(1)});

}  // namespace
}  // namespace reprise::scenarios

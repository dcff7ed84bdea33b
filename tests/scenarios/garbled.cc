// Frames arrive with a bit that was flipped, or without their last bytes. Bits
// are flipped in descriptors of messages only: nothing on the wire tells
// whether the bits of a payload, of a tensor or of the name of who connects are
// right. Whatever comes, the agent makes no sense of it and fails that
// connection. Rules, besides those of echo_agent.h:
//
//  in-time  no call ends much later than its timeout
//  heals    once all frames arrive as they were sent, each worker can call the
//           other within the parameter `heal_ms`, long before a keepalive would
//           have noticed
//
// In `garbled_hellos` it is the hellos that lack their last bytes. Of a pipe
// that lacks one of its connections, TensorPipe tells neither end, so there the
// keepalive has to notice.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(1);

void CallTheOther(Worker& worker, EchoAgent& agent, Draws random) {
  std::vector<std::pair<Future, CallSpec>> calls;
  const absl::Time begin = worker.runtime().Now();
  for (int64_t left = random.Between("calls", 1, 4); left > 0; --left) {
    CallSpec spec = agent.NewCall();
    spec.work = DrawDuration(random, "work", absl::Milliseconds(50));
    spec.padding = random.Between("padding", 0, 2000);
    for (int64_t more = random.Between("tensors", 0, 2); more > 0; --more) {
      spec.tensors.push_back(random.Between("bytes", 0, 20'000));
    }
    Future call = agent.Send(1 - worker.rank(), spec);
    calls.emplace_back(std::move(call), std::move(spec));
  }
  for (const auto& [call, spec] : calls) {
    const absl::Status status = agent.Await(call, spec);
    worker.Check(worker.runtime().Now() - begin <= kTimeout + absl::Seconds(1),
                 "in-time", "a call ended late: " + status.ToString());
    if (status.ok()) continue;
    if (status.message().find("EPROTO") != absl::string_view::npos) {
      worker.Reached("refused a frame");
    }
    if (status.message().find("refused a message") != absl::string_view::npos) {
      worker.Reached("refused a message");
    }
  }
}

void Garbled(Worker& worker) {
  AgentOptions options = worker.options();
  options.rpc_timeout = kTimeout;
  options.connect_timeout = kTimeout;
  options.keepalive_interval = absl::Milliseconds(500);
  options.keepalive_bound = absl::Milliseconds(worker.param("keepalive_ms"));
  auto agent = EchoAgent::Start(worker, options, worker.In(absl::Minutes(1)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  Draws random = worker.random("calls");
  const absl::Time calm =
      worker.In(absl::Milliseconds(worker.param("storm_ms")));
  while (worker.runtime().Now() < calm) {
    CallTheOther(worker, **agent, random.Part("round"));
    if (random.OneIn("pauses", 2)) {
      worker.Sleep(DrawDuration(random, "pause", absl::Milliseconds(100)));
    }
  }
  const absl::Time healed = calm + absl::Milliseconds(worker.param("heal_ms"));
  absl::Status status;
  do {
    CallSpec spec = (*agent)->NewCall();
    spec.tensors = {1000};
    status = (*agent)->Call(1 - worker.rank(), spec);
  } while (!status.ok() && worker.runtime().Now() < healed);
  worker.CheckOk(status, "heals");
  (*agent)->JoinAndShutdown(absl::Minutes(5));
}

// "corrupt w0>w1 when w0 send.descriptor#5", without its last word.
std::string DrawPlace(Draws random, std::string_view event, int64_t often) {
  const uint64_t from = random.Below("from", 2);
  const std::string sender = "w" + std::to_string(from);
  const int64_t bound = random.OneIn("early", 2) ? 5 : often;
  return "corrupt " + sender + ">w" + std::to_string(1 - from) + " when " +
         sender + " " + std::string(event) + "#" +
         std::to_string(random.Between("number", 1, bound));
}

std::vector<std::string> DrawCuts(Draws random, const ScenarioParams& params) {
  std::vector<std::string> lines;
  for (int64_t left = random.Between("cuts", 0, 2); left > 0; --left) {
    lines.push_back("cut w0-w1 after " +
                    std::to_string(random.Between(
                        "at", 100, params.find("storm_ms")->second)) +
                    "ms reset");
  }
  return lines;
}

std::vector<std::string> DrawGarbling(Draws random,
                                      const ScenarioParams& params) {
  struct Phase {
    std::string_view event;
    int64_t often;
    bool may_flip;
  };
  constexpr std::array<Phase, 3> kPhases = {{{"send.descriptor", 100, true},
                                             {"send.payload", 200, false},
                                             {"send.tensor", 50, false}}};
  std::vector<std::string> lines = DrawCuts(random.Part("cuts"), params);
  for (int64_t left = random.Between("faults", 1, 4); left > 0; --left) {
    const Phase& phase = kPhases[random.Below("phase", kPhases.size())];
    const bool flips = phase.may_flip && !random.OneIn("is short", 3);
    lines.push_back(DrawPlace(random.Part("place"), phase.event, phase.often) +
                    (flips ? " flip" : " short"));
  }
  return lines;
}

std::vector<std::string> DrawGarbledHellos(Draws random,
                                           const ScenarioParams& params) {
  // They make more hellos.
  std::vector<std::string> lines = DrawCuts(random.Part("cuts"), params);
  for (int64_t left = random.Between("faults", 1, 4); left > 0; --left) {
    lines.push_back(DrawPlace(random.Part("place"), "send.hello", 12) +
                    " short");
  }
  return lines;
}

REPRISE_SCENARIO(garbled, {.description = "frames arrive flipped or cut short",
                           .workers = 2,
                           .params = {{"storm_ms", 2000},
                                      {"heal_ms", 5000},
                                      {"keepalive_ms", 60000}},
                           .body = Garbled,
                           .faults = DrawGarbling,
                           .probes = {"refused a frame", "refused a message"},
                           .fault_kinds = {"corrupt", "cut"},
                           .enough_seeds = 100,
                           .max_time = absl::Minutes(5),
                           .settle_time = absl::Minutes(3)});

REPRISE_SCENARIO(
    garbled_hellos,
    {.description = "connections begin with hellos that are cut short",
     .workers = 2,
     .params = {{"storm_ms", 2000}, {"heal_ms", 8000}, {"keepalive_ms", 2000}},
     .body = Garbled,
     .faults = DrawGarbledHellos,
     .probes = {"refused a frame"},
     .fault_kinds = {"corrupt", "cut"},
     .enough_seeds = 100,
     .max_time = absl::Minutes(5),
     .settle_time = absl::Minutes(3)});

}  // namespace
}  // namespace reprise::scenarios

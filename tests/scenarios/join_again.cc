// Impatient workers: each joins again and again, with a deadline that is too
// early for the others, until all are there. A worker that gave up in a barrier
// has entered it all the same, and must not be a barrier ahead of the others.

#include <memory>

#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr int kJoins = 2;
constexpr absl::Duration kPatience = absl::Minutes(1);

// Until it has joined; a minute is time enough for all to come.
void JoinSomehow(Worker& worker, Agent& agent, Draws random) {
  const absl::Duration longest = absl::Milliseconds(worker.param("try_ms"));
  const absl::Time end = worker.In(kPatience);
  absl::Status status;
  int tries = 0;
  do {
    status = agent.Join(worker.In(absl::Milliseconds(1) +
                                  DrawDuration(random, "timeout", longest)));
    ++tries;
  } while (absl::IsDeadlineExceeded(status) && worker.runtime().Now() < end);
  worker.CheckOk(status, "join");
  if (tries > 1) worker.Reached("joined at a later try");
}

void JoinAgain(Worker& worker) {
  auto agent =
      EchoAgent::Start(worker, worker.options(), worker.In(absl::Seconds(30)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  Draws random = worker.random("joins");
  const absl::Duration late = absl::Milliseconds(worker.param("late_ms"));
  for (int join = 0; join < kJoins; ++join) {
    worker.Sleep(DrawDuration(random, "late", late));
    CallSpec spec = (*agent)->NewCall();
    spec.work = DrawDuration(random, "work", absl::Milliseconds(20));
    const Future call =
        (*agent)->Send((worker.rank() + 1) % worker.world_size(), spec);
    JoinSomehow(worker, (*agent)->agent(), random.Part("join"));
    worker.Check(call.done(), "join",
                 "a call still runs when the join is over");
    worker.CheckOk((*agent)->Await(call, spec), "call");
  }
  (*agent)->JoinAndShutdown(kPatience);
}

REPRISE_SCENARIO(join_again,
                 {.description = "joins that give up and are tried again",
                  .workers = 3,
                  .params = {{"late_ms", 3000}, {"try_ms", 300}},
                  .body = JoinAgain,
                  .probes = {"joined at a later try"},
                  .enough_seeds = 10,
                  .max_time = absl::Minutes(5),
                  .settle_time = absl::Minutes(1)});

}  // namespace
}  // namespace reprise::scenarios

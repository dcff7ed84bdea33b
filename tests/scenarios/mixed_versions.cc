// Workers of several versions of ours in one dynamic group: each understands
// what was there when it was built (older_version.h). Rules:
//
//  unasked  a worker is told of deadlines only if it understands them
//  works    every call succeeds, whatever its ends understand
//  keyed    a call with an idempotency key runs once, or fails because one of
//           its ends does not understand keys

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/runtime/mutex.h"
#include "sim/scenario/scenario.h"
#include "tests/scenarios/calls.h"
#include "tests/scenarios/older_version.h"

namespace reprise::scenarios {
namespace {

constexpr int kWorkers = 3;
constexpr absl::Duration kTimeout = absl::Seconds(2);
constexpr absl::Duration kPatience = absl::Minutes(1);

// What it answers to the request for its words.
constexpr std::string_view kAsksForWords = "which words?";

class Version {
 public:
  Version(Worker& worker, std::set<std::string, std::less<>> words)
      : worker_(worker),
        words_(std::move(words)),
        mutex_(worker.runtime(), "Version") {}

  const std::set<std::string, std::less<>>& words() const { return words_; }

  absl::StatusOr<Message> Handle(Message request, const RequestInfo& info) {
    worker_.Check(
        words_.contains("deadline") || info.deadline == absl::InfiniteFuture(),
        "unasked", "a deadline came to a worker that knows of none");
    if (request.payload == kAsksForWords) {
      request.payload = absl::StrJoin(words_, " ");
      request.type = MessageType::kScriptRet;
      return request;
    }
    absl::StatusOr<CallSpec> spec = ReadRequest(request);
    if (!worker_.CheckOk(spec.status(), "content")) return spec.status();
    {
      MutexLock lock(mutex_);
      worker_.Check(++runs_[spec->tag] == 1, "keyed", "a call ran twice");
    }
    worker_.Sleep(spec->work);
    return MakeReply(*spec, std::move(request));
  }

 private:
  Worker& worker_;
  const std::set<std::string, std::less<>> words_;
  Mutex mutex_;
  std::map<uint64_t, int> runs_;  // by the call's tag
};

class Caller {
 public:
  Caller(Worker& worker, const Version& own, Agent& agent)
      : worker_(worker),
        knows_keys_(own.words().contains("idempotency")),
        agent_(agent),
        random_(worker.random("calls")) {}

  void CallUntil(absl::Time end) {
    while (worker_.runtime().Now() < end) {
      CallOnce(random_.Part("call"));
      worker_.Sleep(DrawDuration(random_, "pause", absl::Milliseconds(200)));
    }
  }

 private:
  std::string Name(int rank) const { return worker_.NameOf(rank); }

  CallSpec NewCall() {
    CallSpec spec;
    spec.tag = static_cast<uint64_t>(worker_.rank()) << 48 | ++last_tag_;
    return spec;
  }

  // What the peer understands.
  std::string AskForWords(int rank) {
    Message request;
    request.type = MessageType::kScriptCall;
    request.payload = std::string(kAsksForWords);
    const Future reply =
        agent_.Send(Name(rank), request, CallOptions{.timeout = kTimeout});
    const Future::Result& result = reply.result();
    if (!worker_.CheckOk(result.status(), "works")) return "";
    return std::string(result->payload);
  }

  void CallOnce(Draws random) {
    const auto rank = static_cast<int>(random.Below("peer", kWorkers));
    CallSpec spec = NewCall();
    spec.work = DrawDuration(random, "work", absl::Milliseconds(100));
    if (random.OneIn("has tensors", 2)) {
      spec.tensors = {random.Between("bytes", 0, 20'000)};
    }
    CallOptions options{.timeout = kTimeout};
    const bool is_keyed = random.OneIn("is keyed", 3);
    if (is_keyed) options.idempotency_key = absl::StrCat(spec.tag);
    const bool is_cancelled = !is_keyed && random.OneIn("is cancelled", 5);
    const std::string words = AskForWords(rank);
    const Future call = agent_.Send(Name(rank), MakeRequest(spec), options);
    if (is_cancelled) {
      worker_.Sleep(DrawDuration(random, "until then", spec.work));
      call.Cancel();
      return;
    }
    const Future::Result& result = call.result();
    if (result.ok()) worker_.CheckOk(CheckReply(spec, *result), "content");
    Judge(result.status(), is_keyed, words);
  }

  void Judge(const absl::Status& status, bool is_keyed,
             const std::string& words) {
    const std::string what =
        absl::StrCat("a peer that knows '", words, "': ", status.ToString());
    if (!is_keyed) {
      worker_.Check(status.ok(), "works", what);
    } else if (knows_keys_ && absl::StrContains(words, "idempotency")) {
      worker_.Reached("both know keys");
      worker_.Check(status.ok(), "keyed", what);
    } else {
      worker_.Reached("one knows no keys");
      worker_.Check(absl::IsFailedPrecondition(status), "keyed", what);
    }
  }

  Worker& worker_;
  const bool knows_keys_;
  Agent& agent_;
  Draws random_;
  uint64_t last_tag_ = 0;
};

void MixedVersions(Worker& worker) {
  const absl::Time end =
      worker.In(absl::Milliseconds(worker.param("calling_ms")));
  // One in three is the present version.
  Draws versions = worker.random("version");
  const bool is_present = versions.OneIn("is present", 3);
  const std::set<std::string, std::less<>> words = WordsOfVersion(
      is_present
          ? kNumVersions - 1
          : static_cast<int64_t>(versions.Below("version", kNumVersions - 1)));
  Environment environment = worker.environment();
  environment.store = std::make_shared<OlderStore>(environment.store, words);
  AgentOptions options = worker.options();
  options.world_size = kDynamicGroup;
  auto version = std::make_shared<Version>(worker, words);
  auto agent = Agent::Start(
      environment, options,
      Blocking([version](Message request, const RequestInfo& info) {
        return version->Handle(std::move(request), info);
      }),
      worker.In(kPatience));
  if (!worker.CheckOk(agent.status(), "start")) return;
  for (int rank = 0; rank < kWorkers; ++rank) {
    worker.CheckOk(
        (*agent)
            ->WaitForWorker(worker.NameOf(rank), worker.In(kPatience))
            .status(),
        "wait-for-worker");
  }
  Caller(worker, *version, **agent).CallUntil(end);
  // The others may still call.
  worker.runtime().SleepUntil(end + 3 * kTimeout);
  worker.CheckOk((*agent)->Leave(worker.In(kPatience)), "leave");
  worker.CheckOk((*agent)->Shutdown(worker.In(absl::Seconds(10))), "shutdown");
}

REPRISE_SCENARIO(mixed_versions,
                 {.description = "workers of several versions call each other",
                  .workers = kWorkers,
                  .params = {{"calling_ms", 5000}},
                  .smallest = {{"calling_ms", 1}},
                  .body = MixedVersions,
                  .probes = {"both know keys", "one knows no keys"},
                  .enough_seeds = 50,
                  .max_time = absl::Minutes(10),
                  .settle_time = absl::Minutes(8)});

}  // namespace
}  // namespace reprise::scenarios

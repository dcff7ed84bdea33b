// A ledger keeps what its clients have told it in a file, and answers when that
// is durable. Its machine loses its power, its process is killed, its disk is
// full, is slow or fails to sync. Rules:
//
//  whole    a checkpoint that is there can be read
//  durable  what was acknowledged is in the ledger after every restart
//  served   once the disk is well, each client is answered within the parameter
//           `served_ms`

#include <algorithm>
#include <array>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "agent/disk/disk.h"
#include "agent/runtime/mutex.h"
#include "sim/scenario/scenario.h"
#include "tests/scenarios/echo_agent.h"

namespace reprise::scenarios {
namespace {

constexpr int kLedger = 0;
constexpr int kWorkers = 3;
constexpr absl::Duration kTimeout = absl::Seconds(1);
constexpr absl::Duration kPause = absl::Milliseconds(20);
constexpr char kFile[] = "ledger";

Message MakeMessage(MessageType type, std::string payload) {
  Message message;
  message.type = type;
  message.payload = std::move(payload);
  return message;
}

// The number of the last entry of each client, in a file of several sectors
// that shows whether it is whole.
struct Entries {
  std::array<int64_t, kWorkers> last{};

  std::string ToFile() const {
    std::string text = absl::StrCat(last[1], " ", last[2], "\n");
    while (text.size() < 3000) {
      absl::StrAppend(&text, HashBytes(text), "\n");
    }
    return text;
  }

  bool FromFile(const std::string& text) {
    std::istringstream fields(text);
    fields >> last[1] >> last[2];
    return !fields.fail() && ToFile() == text;
  }
};

class Ledger {
 public:
  explicit Ledger(Worker& worker)
      : worker_(worker), mutex_(worker.runtime(), "Ledger") {}

  void Live() {
    if (!Restore()) return;
    const auto agent = Agent::Start(
        worker_.environment(), worker_.options(),
        Blocking([this](const Message& request, const RequestInfo& /*info*/) {
          return Enter(request.payload);
        }),
        worker_.In(absl::Minutes(2)));
    if (!worker_.CheckOk(agent.status(), "served")) return;
    while (!IsComplete()) worker_.Sleep(kPause);
    // A client whose last answer was lost asks again.
    worker_.Sleep(absl::Seconds(4));
    (*agent)->Shutdown(worker_.In(absl::Seconds(10))).IgnoreError();
  }

 private:
  // False if the worker is to end.
  bool Restore() {
    MutexLock lock(mutex_);
    const absl::StatusOr<std::string> text = worker_.disk().Read(kFile);
    if (!text.ok()) {
      return worker_.Check(absl::IsNotFound(text.status()), "whole",
                           text.status().ToString());
    }
    if (worker_.incarnation() > 0) worker_.Reached("restored");
    // The predecessor may have died before this was durable, and what is read
    // here is answered for from now on.
    if (!worker_.CheckOk(worker_.disk().SyncNames(), "whole")) return false;
    return worker_.Check(
        entries_.FromFile(*text), "whole",
        absl::StrCat("a checkpoint of ", text->size(), " bytes is torn"));
  }

  // Enters "client number" unless it is there already.
  absl::StatusOr<Message> Enter(const std::string& payload) {
    std::istringstream fields(payload);
    size_t client = 0;
    int64_t number = 0;
    fields >> client >> number;
    MutexLock lock(mutex_);
    const int64_t last = entries_.last.at(client);
    worker_.Check(number <= last + 1, "durable",
                  absl::StrCat("w", client, " was told that its entry ",
                               number - 1, " is kept, and the last is ", last));
    if (number == last + 1) {
      Entries next = entries_;
      next.last[client] = number;
      // The lock is held, so that what is answered is what was written last.
      absl::Status status = ReplaceFile(worker_.disk(), kFile, next.ToFile());
      if (!status.ok()) {
        worker_.Reached("not written");
        return absl::UnavailableError(status.message());
      }
      entries_ = next;
    }
    return MakeMessage(MessageType::kScriptRet, "kept");
  }

  bool IsComplete() {
    MutexLock lock(mutex_);
    return std::min(entries_.last[1], entries_.last[2]) >=
           worker_.param("entries");
  }

  Worker& worker_;
  Mutex mutex_;
  Entries entries_ ABSL_GUARDED_BY(mutex_);
};

void BeClient(Worker& worker) {
  AgentOptions options = worker.options();
  options.connect_timeout = kTimeout;
  options.keepalive_interval = kTimeout;
  options.keepalive_bound = 3 * kTimeout;
  const auto agent = Agent::Start(
      worker.environment(), std::move(options),
      [](const Message&, const RequestInfo&, Reply reply) {
        reply(absl::UnimplementedError("a client serves nothing"));
      },
      worker.In(absl::Minutes(2)));
  if (!worker.CheckOk(agent.status(), "served")) return;
  const absl::Duration most = absl::Milliseconds(worker.param("served_ms"));
  for (int64_t number = 1; number <= worker.param("entries"); ++number) {
    const absl::Time begin = worker.runtime().Now();
    while (true) {
      CallOptions call;
      call.timeout = kTimeout;
      const Future reply =
          (*agent)->Send(kLedger,
                         MakeMessage(MessageType::kScriptCall,
                                     absl::StrCat(worker.rank(), " ", number)),
                         call);
      reply.Wait();
      if (reply.result().ok()) break;
      if (!worker.Check(worker.runtime().Now() - begin < most, "served",
                        reply.result().status().ToString())) {
        return;
      }
      worker.Sleep(kPause);
    }
  }
  (*agent)->Shutdown(worker.In(absl::Seconds(10))).IgnoreError();
}

void KeepALedger(Worker& worker) {
  if (worker.rank() == kLedger) {
    Ledger(worker).Live();
  } else {
    BeClient(worker);
  }
}

std::vector<std::string> DrawFaults(Draws random,
                                    const ScenarioParams& params) {
  std::vector<std::string> faults;
  // Each entry takes four steps of the disk.
  const int64_t steps = 4 * 2 * params.at("entries");
  for (int64_t left = random.Between("deaths", 1, 3); left > 0; --left) {
    faults.push_back(
        absl::StrCat(random.OneIn("is a kill", 4) ? "kill" : "power",
                     " w0 when w0 file#", random.Between("step", 1, steps),
                     " restart ", random.Between("down", 100, 2000), "ms"));
  }
  if (random.OneIn("sync fails", 2)) {
    faults.push_back(absl::StrCat("disk-sync-fails w0 when w0 file#",
                                  random.Between("sync", 1, steps)));
  }
  if (random.OneIn("full", 3)) {
    faults.push_back(absl::StrCat("disk-full w0 when w0 file#",
                                  random.Between("full at", 1, steps), " for ",
                                  random.Between("full for", 1, 500), "ms"));
  }
  if (random.OneIn("slow", 3)) {
    faults.push_back(
        absl::StrCat("disk-slow w0 ", random.Between("slower by", 1, 300),
                     "ms when w0 file#", random.Between("slow at", 1, steps),
                     " for ", random.Between("slow for", 1, 1000), "ms"));
  }
  return faults;
}

REPRISE_SCENARIO(
    checkpoint, {.description = "a service whose disk loses what is not synced",
                 .workers = kWorkers,
                 .params = {{"entries", 5}, {"served_ms", 60'000}},
                 .body = KeepALedger,
                 .faults = DrawFaults,
                 .probes = {"restored", "not written"},
                 .fault_kinds = {"power", "kill", "disk-full", "disk-slow",
                                 "disk-sync-fails"},
                 .enough_seeds = 100,
                 .max_time = absl::Minutes(20),
                 .settle_time = absl::Minutes(5)});

}  // namespace
}  // namespace reprise::scenarios

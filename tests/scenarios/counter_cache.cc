// A service that is written with std:: and absl:: threading, over the agent:
// threads of every worker add to counters and read them through a cache. No
// addition may be lost, and no reader may see a counter go back.

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "sim/scenario/scenario.h"
#include "tests/scenarios/cache_service.h"

namespace counter_cache {
namespace {

using cache_service::Counter;
using cache_service::CounterCache;
using cache_service::CounterShard;
using reprise::Agent;
using reprise::Message;
using reprise::MessageType;
using reprise::RequestInfo;
using reprise::Worker;

constexpr int kClients = 3;  // threads of each worker
constexpr int kSteps = 6;    // of each client
constexpr int kKeys = 4;

// One worker: its shard, its cache, and the requests between them and others.
// "read KEY", "add KEY AMOUNT" are answered "VALUE VERSION"; "done AMOUNT" says
// that the sender has added so much to this worker's shard, and no more comes.
class Node {
 public:
  Node(Worker& worker, cache_service::Defects defects)
      : worker_(worker),
        shard_(defects),
        cache_(
            [this](const std::string& key) {
              return Ask(key, absl::StrCat("read ", key));
            },
            /*num_threads=*/2, defects) {}

  absl::Status Start() {
    auto agent = Agent::Start(
        worker_.environment(), worker_.options(),
        reprise::Blocking([this](Message request, const RequestInfo&) {
          return Answer(std::move(request));
        }),
        worker_.In(absl::Seconds(30)));
    if (agent.ok()) agent_ = std::move(*agent);
    return agent.status();
  }

  void Run() {
    std::vector<std::string> keys;
    for (int i = 0; i < kKeys; ++i) keys.push_back(absl::StrCat("key", i));
    worker_.Check(cache_.Warm(keys) == kKeys, "warm", "an owner is silent");
    {
      std::vector<std::jthread> clients;
      for (int i = 0; i < kClients; ++i) {
        clients.emplace_back([&, i] { RunClient(keys, i); });
      }
    }
    for (int rank = 0; rank < worker_.world_size(); ++rank) {
      Send(rank, absl::StrCat("done ", added_[rank].load()));
    }
    absl::MutexLock lock(&done_mutex_);
    done_mutex_.Await(absl::Condition(
        +[](Node* node) {
          node->done_mutex_.AssertHeld();
          return node->num_done_ == node->worker_.world_size();
        },
        this));
    const int64_t sum = shard_.Sum();
    worker_.Check(sum == announced_, "no-lost-update",
                  absl::StrCat("the shard holds ", sum, " of the ", announced_,
                               " that were added"));
  }

  void Shutdown() {
    worker_.CheckOk(agent_->JoinForShutdown(worker_.In(absl::Seconds(60))),
                    "join");
    worker_.CheckOk(agent_->Shutdown(worker_.In(absl::Seconds(10))),
                    "shutdown");
    const cache_service::CacheStats stats = cache_.stats();
    if (stats.hits > 0) worker_.Reached("a cached counter was fresh");
    if (stats.shared_fetches > 0) worker_.Reached("two readers shared a fetch");
    if (stats.expired > 0) worker_.Reached("a cached counter expired");
  }

 private:
  int OwnerOf(const std::string& key) const {
    return (key.back() - '0') % worker_.world_size();
  }

  std::optional<std::string> Send(int rank, const std::string& text) {
    Message request;
    request.type = MessageType::kScriptCall;
    request.payload = text;
    const auto reply = agent_->Send(worker_.NameOf(rank), request).result();
    if (!worker_.CheckOk(reply.status(), "call")) return std::nullopt;
    return std::string(reply->payload.begin(), reply->payload.end());
  }

  std::optional<Counter> Ask(const std::string& key, const std::string& text) {
    const std::optional<std::string> reply = Send(OwnerOf(key), text);
    if (!reply) return std::nullopt;
    const std::vector<std::string> words = absl::StrSplit(*reply, ' ');
    Counter counter;
    if (words.size() != 2 || !absl::SimpleAtoi(words[0], &counter.value) ||
        !absl::SimpleAtoi(words[1], &counter.version)) {
      return std::nullopt;
    }
    return counter;
  }

  absl::StatusOr<Message> Answer(Message request) {
    const std::vector<std::string> words = absl::StrSplit(
        std::string(request.payload.begin(), request.payload.end()), ' ');
    int64_t amount = 0;
    Message reply;
    reply.type = MessageType::kScriptRet;
    if (words[0] == "read" && words.size() == 2) {
      const Counter counter = shard_.Read(words[1]);
      reply.payload = absl::StrCat(counter.value, " ", counter.version);
    } else if (words[0] == "add" && words.size() == 3 &&
               absl::SimpleAtoi(words[2], &amount)) {
      const Counter counter = shard_.Add(words[1], amount);
      reply.payload = absl::StrCat(counter.value, " ", counter.version);
    } else if (words[0] == "done" && words.size() == 2 &&
               absl::SimpleAtoi(words[1], &amount)) {
      const absl::MutexLock lock(&done_mutex_);
      announced_ += amount;
      ++num_done_;
    } else {
      return absl::InvalidArgumentError("no such request");
    }
    return reply;
  }

  void RunClient(const std::vector<std::string>& keys, int number) {
    reprise::Draws draws = worker_.random(absl::StrCat("client ", number));
    std::vector<int64_t> seen(keys.size());
    for (int step = 0; step < kSteps; ++step) {
      const auto index = static_cast<size_t>(draws.Below("key", keys.size()));
      const std::string& key = keys[index];
      if (draws.OneIn("adds", 3)) {
        const int64_t amount = draws.Between("amount", 0, 99);
        const auto counter = Ask(key, absl::StrCat("add ", key, " ", amount));
        if (counter) added_[OwnerOf(key)] += amount;
      } else if (const auto counter = cache_.Read(key)) {
        worker_.Check(counter->version >= seen[index], "never-backwards",
                      absl::StrCat("client ", number, " saw ", key, " go from ",
                                   seen[index], " to ", counter->version));
        seen[index] = counter->version;
      }
      std::this_thread::sleep_for(
          std::chrono::milliseconds(draws.Below("pause", 15)));
    }
  }

  Worker& worker_;
  CounterShard shard_;
  std::unique_ptr<Agent> agent_;
  CounterCache cache_;                  // its threads use the agent
  std::atomic<int64_t> added_[3] = {};  // to the shard of each worker

  absl::Mutex done_mutex_;
  int num_done_ ABSL_GUARDED_BY(done_mutex_) = 0;
  int64_t announced_ ABSL_GUARDED_BY(done_mutex_) = 0;
};

void Body(Worker& worker) {
  Node node(worker, {.lost_update = worker.param("lost_update") != 0,
                     .deadlock = worker.param("deadlock") != 0,
                     .race = worker.param("race") != 0});
  if (!worker.CheckOk(node.Start(), "start")) return;
  node.Run();
  node.Shutdown();
}

REPRISE_SCENARIO(
    counter_cache,
    {.description = "a cache written with std:: and absl:: threading",
     .workers = 3,
     // Defects that can be planted.
     .params = {{"deadlock", 0}, {"lost_update", 0}, {"race", 0}},
     .body = Body,
     .probes = {"a cached counter was fresh", "two readers shared a fetch",
                "a cached counter expired"}});

}  // namespace
}  // namespace counter_cache

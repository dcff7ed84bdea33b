// Eight processes, each with an agent over uv, meet in a store whose server is
// killed (kill -9) and started again once in each run: while they look for each
// other, while they call each other, or while they leave. The server is a
// Redis, or the leader of a cluster of etcd.

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/agent.h"
#include "agent/runtime/runtime.h"
#include "agent/store/open_store.h"
#include "agent/transport/transports.h"
#include "gtest/gtest.h"
#include "tests/unit/store/child_process.h"
#include "tests/unit/store/etcd_cluster.h"
#include "tests/unit/store/server_process.h"

namespace reprise {
namespace {

constexpr int kWorkers = 8;
// So many rounds come after the kill: the calls must outlive it.
constexpr int kRounds = 5;

absl::Time Later() { return RealRuntime().Now() + absl::Minutes(3); }
void Sleep(absl::Duration duration) {
  RealRuntime().SleepUntil(RealRuntime().Now() + duration);
}

// Counts the workers that have got so far, in memory that all processes share.
struct Progress {
  std::atomic<int> begun = 0;
  std::atomic<int> started = 0;
  std::atomic<int> called = 0;
  std::atomic<int> joining = 0;
  std::atomic<int> left = 0;
  std::atomic<bool> killed = false;
};

void Expect(const absl::Status& status, int id, const char* what,
            int line = __builtin_LINE()) {
  if (!status.ok()) {
    fprintf(stderr, "w%d: %s: %s\n", id, what, status.ToString().c_str());
  }
  ExpectInChild(status.ok(), __FILE__, line);
}

void CallAll(Agent& agent, int id) {
  std::vector<Future> replies;
  for (int peer = 0; peer < kWorkers; ++peer) {
    Message request;
    request.type = MessageType::kScriptCall;
    request.payload = absl::StrCat(id, " to ", peer);
    replies.push_back(agent.Send(absl::StrCat("w", peer), request));
  }
  for (int peer = 0; peer < kWorkers; ++peer) {
    ExpectInChild(replies[peer].Wait(Later()));
    const auto& reply = replies[peer].result();
    Expect(reply.status(), id, "call");
    ExpectInChild(reply->payload == absl::StrCat(id, " to ", peer));
  }
}

void Work(Progress& progress, const std::string& url, int id,
          bool await_the_kill) {
  ++progress.begun;
  const auto store = OpenStore(RealRuntime(), url);
  Expect(store.status(), id, "store");
  AgentOptions options;
  options.name = absl::StrCat("w", id);
  options.id = id;
  options.world_size = kWorkers;
  options.num_worker_threads = 2;
  options.transport.transports = {"uv"};
  options.transport.channels = {"basic"};
  options.transport.bind_address = "127.0.0.1";
  const auto agent =
      Agent::Start({&RealRuntime(), *store, &RealTransports()}, options,
                   Blocking([](Message request,
                               const RequestInfo&) -> absl::StatusOr<Message> {
                     request.type = MessageType::kScriptRet;
                     return request;
                   }),
                   Later());
  Expect(agent.status(), id, "start");
  ++progress.started;
  for (int round = 0; round < kRounds;) {
    CallAll(**agent, id);
    if (!await_the_kill || progress.killed) ++round;
    ++progress.called;
  }
  ++progress.joining;
  Expect((*agent)->JoinForShutdown(Later()), id, "join");
  ++progress.left;
  Expect((*agent)->Shutdown(Later()), id, "shutdown");
}

class Server {
 public:
  virtual ~Server() = default;
  virtual std::string Url() const = 0;
  virtual void Kill() = 0;
  virtual void Restart() = 0;
};

class Redis : public Server {
 public:
  std::string Url() const override { return server_.Url(); }
  void Kill() override { server_.Kill(); }
  void Restart() override { server_.Restart(); }

 private:
  RedisServer server_;
};

class Etcd : public Server {
 public:
  std::string Url() const override { return cluster_.Url("/group"); }
  void Kill() override {
    while ((killed_ = cluster_.Leader()) < 0) Sleep(absl::Milliseconds(1));
    cluster_.Kill(killed_);
  }
  void Restart() override { cluster_.Restart(killed_); }

 private:
  EtcdCluster cluster_{3};
  int killed_ = -1;
};

// When the server is killed, and for how long.
enum class Phase { kMeeting, kCalling, kLeaving };
using Kill = std::tuple<Phase, int>;

void SurviveAKill(Server& server, const Kill& kill) {
  const auto [phase, moment] = kill;
  void* const memory = mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  Progress& progress = *new (memory) Progress();
  const bool await_the_kill = phase == Phase::kCalling;
  const std::string url = server.Url();
  std::vector<std::unique_ptr<ChildProcess>> workers;
  for (int id = 0; id < kWorkers; ++id) {
    workers.push_back(std::make_unique<ChildProcess>(
        [&] { Work(progress, url, id, await_the_kill); }));
  }
  const std::atomic<int>& watched = phase == Phase::kMeeting ? progress.begun
                                    : phase == Phase::kCalling
                                        ? progress.called
                                        : progress.joining;
  const absl::Time give_up = Later();
  while (watched <= moment && RealRuntime().Now() < give_up) {
    Sleep(absl::Microseconds(200));
  }
  // Some milliseconds more or less, so that the kill hits something else each
  // time.
  Sleep(moment * absl::Milliseconds(1));
  const int started = progress.started;
  const int left = progress.left;
  server.Kill();
  Sleep(absl::Milliseconds(50) * moment);
  server.Restart();
  progress.killed = true;
  for (int id = 0; id < kWorkers; ++id) {
    EXPECT_EQ(workers[id]->Wait(), 0) << "w" << id;
  }
  EXPECT_EQ(progress.left, kWorkers);
  printf("killed when %d had started and %d had left\n", started, left);
  munmap(memory, sizeof(Progress));
}

std::string KillName(const testing::TestParamInfo<Kill>& info) {
  const char* const names[] = {"Meeting", "Calling", "Leaving"};
  return absl::StrCat(names[static_cast<int>(std::get<0>(info.param))],
                      std::get<1>(info.param));
}

constexpr Phase kPhases[] = {Phase::kMeeting, Phase::kCalling, Phase::kLeaving};

class RedisGroupTest : public testing::TestWithParam<Kill> {};

TEST_P(RedisGroupTest, SurvivesAKillOfTheStore) {
  Redis redis;
  SurviveAKill(redis, GetParam());
}

INSTANTIATE_TEST_SUITE_P(Kills, RedisGroupTest,
                         testing::Combine(testing::ValuesIn(kPhases),
                                          testing::Range(0, 7)),
                         KillName);

class EtcdGroupTest : public testing::TestWithParam<Kill> {};

TEST_P(EtcdGroupTest, SurvivesAKillOfTheLeader) {
  const std::string missing = EtcdCluster::Missing();
  if (!missing.empty()) GTEST_SKIP() << missing;
  Etcd etcd;
  SurviveAKill(etcd, GetParam());
}

INSTANTIATE_TEST_SUITE_P(Kills, EtcdGroupTest,
                         testing::Combine(testing::ValuesIn(kPhases),
                                          testing::Values(0, 4)),
                         KillName);

}  // namespace
}  // namespace reprise

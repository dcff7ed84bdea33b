// Join and JoinForShutdown.

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/agent.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"
#include "tests/unit/agent/hooked_store.h"
#include "tests/unit/agent/recorder.h"

namespace reprise::testing {
namespace {

using ::testing::HasSubstr;

std::string Text(const absl::Status& status) {
  return std::string(status.message());
}

absl::Time InMillis(int millis) {
  return RealRuntime().Now() + absl::Milliseconds(millis);
}

void JoinAll(Cluster& cluster) {
  cluster.OnEach([&](int64_t id) {
    const absl::Status status = cluster[id].Join(Soon());
    EXPECT_TRUE(status.ok()) << id << ": " << status;
  });
}

bool Has(Store& store, const std::string& key) {
  return store.TryGet(key, Soon()).ok();
}

// What the barriers' keys of the present epoch begin with.
std::string Shutdown(Store& store) {
  const std::string epoch = *store.TryGet("reprise/epoch", Soon());
  return absl::StrCat("reprise/epoch/", epoch.substr(0, epoch.find(' ')),
                      "/shutdown/");
}

TEST(JoinTest, WaitsForTheWorkOfAll) {
  std::atomic<int> handled = 0;
  Cluster cluster;
  cluster.Start(3, Blocking([&](Message request,
                                const RequestInfo&) -> absl::StatusOr<Message> {
                  ++handled;
                  request.type = MessageType::kScriptRet;
                  return request;
                }));
  for (int round = 1; round <= 3; ++round) {
    // Uneven: w0 has all the work, and the rest comes straight to the barrier.
    cluster.OnEach([&](int64_t id) {
      std::vector<Future> calls;
      for (int i = 0; id == 0 && i < 200; ++i) {
        calls.push_back(
            cluster[0].Send(static_cast<WorkerId>(i % 3), Request("")));
      }
      const absl::Status status = cluster[id].Join(Soon());
      EXPECT_TRUE(status.ok()) << status;
      EXPECT_EQ(handled, 200 * round);
      for (const Future& call : calls) EXPECT_TRUE(call.done());
    });
  }
}

TEST(JoinTest, WaitsForNestedAndForFollowUpCalls) {
  // A call to w1 makes one to w2, which makes one to w0, and so on; and each
  // reply is followed by another call, from its callback.
  std::atomic<int> handled = 0;
  Cluster cluster;
  Gate ready;
  cluster.Start(
      3,
      [&](Message request, const RequestInfo& info, Reply reply) {
        ++handled;
        const int hops = std::stoi(request.payload);
        const int64_t self = (info.caller[1] - '0' + 1) % 3;
        request.type = MessageType::kScriptRet;
        if (hops > 0 && ready.Wait()) {
          EXPECT_TRUE(cluster[self]
                          .Send(static_cast<WorkerId>((self + 1) % 3),
                                Request(absl::StrCat(hops - 1)))
                          .status()
                          .ok());
        }
        reply(std::move(request));
      },
      [](AgentOptions& options) { options.num_worker_threads = 16; });
  ready.Open();
  constexpr int kFollowUps = 5;
  std::function<void(int)> call = [&](int follow_ups) {
    cluster[0]
        .Send("w1", Request("5"))
        .Then([&, follow_ups](const Future::Result& result) {
          EXPECT_TRUE(result.ok()) << result.status();
          if (follow_ups > 0) call(follow_ups - 1);
        });
  };
  cluster.OnEach([&](int64_t id) {
    if (id == 0) call(kFollowUps);
    const absl::Status status = cluster[id].Join(Soon());
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(handled, 6 * (kFollowUps + 1));
  });
}

TEST(JoinTest, CallsThatBeginMeanwhileTakeAnotherRound) {
  for (const bool is_slow : {false, true}) {
    Gate gate;
    Recorder recorder;
    Cluster cluster;
    cluster.set_observer(&recorder);
    cluster.Start(3,
                  Blocking([&](Message request,
                               const RequestInfo&) -> absl::StatusOr<Message> {
                    if (is_slow) gate.Wait();
                    request.type = MessageType::kScriptRet;
                    return request;
                  }));
    std::vector<std::unique_ptr<Thread>> threads;
    const auto join = [&](int64_t id) {
      threads.push_back(RealRuntime().StartThread("joining", [&cluster, id] {
        const absl::Status status = cluster[id].Join(Soon());
        EXPECT_TRUE(status.ok()) << status;
      }));
    };
    join(0);
    join(1);
    ASSERT_TRUE(recorder.WaitFor("entered 1", 2));
    // Both were quiet, and are no more; or were busy once more.
    const Future call = cluster[0].Send("w1", Request(""));
    ASSERT_TRUE(is_slow ? recorder.WaitFor("request") : call.Wait(Soon()));
    join(2);
    ASSERT_TRUE(recorder.WaitFor("entered 2", 3));
    gate.Open();
    for (const std::unique_ptr<Thread>& thread : threads) thread->Join();
    EXPECT_TRUE(call.done());
    EXPECT_TRUE(
        Has(*cluster.store(), Shutdown(*cluster.store()) + "READY_ID_4"));
  }
}

TEST(JoinTest, NamesWhoDoesNotComeAndCanBeTriedAgain) {
  Cluster cluster;
  cluster.Start(3, Echo());
  cluster.OnEach([&](int64_t id) {
    if (id == 2) return;
    const absl::Time deadline = InMillis(400);
    const absl::Status status = cluster[id].Join(deadline);
    EXPECT_GE(RealRuntime().Now(), deadline);
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_THAT(Text(status), HasSubstr("barrier 1: "));
    EXPECT_THAT(Text(status), HasSubstr("of 3 workers arrived; missing: "));
    EXPECT_THAT(Text(status), HasSubstr("w2"));
  });
  // They stay in the barrier that they came to: it is the same one.
  JoinAll(cluster);
  EXPECT_TRUE(Has(*cluster.store(), Shutdown(*cluster.store()) + "READY_ID_2"));
  EXPECT_FALSE(
      Has(*cluster.store(), Shutdown(*cluster.store()) + "READY_ID_3"));
}

TEST(JoinTest, DoesNotWaitForCallsBeyondItsDeadline) {
  Gate gate;
  Cluster cluster;
  cluster.Start(2, EchoAfter(gate));
  const Future call = cluster[0].Send("w1", Request(""));
  const absl::Status status = cluster[0].Join(InMillis(20));
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(Text(status), HasSubstr("worker w0 itself has 1 calls"));
  EXPECT_EQ(cluster[0].Join(absl::InfinitePast()).code(),
            absl::StatusCode::kDeadlineExceeded);
  gate.Open();
  JoinAll(cluster);
  EXPECT_TRUE(call.done());
}

TEST(JoinTest, AHandlerWhoseCallerGaveUpIsWaitedFor) {
  Gate entered, gate;
  std::atomic<bool> left = false;
  Cluster cluster;
  cluster.Start(2, Blocking([&](Message request,
                                const RequestInfo&) -> absl::StatusOr<Message> {
                  entered.Open();
                  gate.Wait();
                  left = true;
                  request.type = MessageType::kScriptRet;
                  return request;
                }));
  const Future call = cluster[0].Send("w1", Request(""));
  ASSERT_TRUE(entered.Wait());
  call.Cancel();
  EXPECT_EQ(cluster[1].Join(InMillis(20)).code(),
            absl::StatusCode::kDeadlineExceeded);
  gate.Open();
  cluster.OnEach([&](int64_t id) {
    const absl::Status status = cluster[id].Join(Soon());
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_TRUE(left);
  });
}

TEST(JoinTest, ForShutdownNobodyLeavesEarly) {
  std::atomic<int> arrived = 0;
  Cluster cluster;
  cluster.Start(4, Echo());
  cluster.OnEach([&](int64_t id) {
    const Future call =
        cluster[id].Send(static_cast<WorkerId>((id + 1) % 4), Request(""));
    ++arrived;
    const absl::Status status = cluster[id].JoinForShutdown(Soon());
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(arrived, 4);
    EXPECT_TRUE(call.status().ok()) << call.status();
    EXPECT_TRUE(cluster[id].Shutdown(Soon()).ok());
    EXPECT_EQ(cluster[id].Join(Soon()).code(),
              absl::StatusCode::kFailedPrecondition);
  });
  // Gather and count, perhaps several times, and then once more: release.
  int barriers = 0;
  while (Has(*cluster.store(), absl::StrCat(Shutdown(*cluster.store()),
                                            "READY_ID_", barriers + 1))) {
    ++barriers;
  }
  EXPECT_EQ(barriers % 2, 1) << barriers;
}

TEST(JoinTest, KeysOfBarriersGo) {
  Cluster cluster;
  cluster.Start(2, Echo());
  Store& store = *cluster.store();
  JoinAll(cluster);
  for (const char* number : {"1", "2"}) {
    EXPECT_EQ(
        *store.TryGet(
            absl::StrCat(Shutdown(store), "PROCESS_COUNT_ID_", number), Soon()),
        "2");
    EXPECT_EQ(
        *store.TryGet(absl::StrCat(Shutdown(store), "ACTIVE_CALLS_ID_", number),
                      Soon()),
        "0");
    EXPECT_EQ(*store.TryGet(absl::StrCat(Shutdown(store), "READY_ID_", number),
                            Soon()),
              "");
  }
  JoinAll(cluster);
  JoinAll(cluster);
  EXPECT_EQ(*store.TryGet(Shutdown(store) + "JOINED", Soon()), "2 4");
  for (int number = 1; number <= 4; ++number) {
    for (const char* key : {"PROCESS_COUNT", "ACTIVE_CALLS", "READY"}) {
      EXPECT_FALSE(
          Has(store, absl::StrCat(Shutdown(store), key, "_ID_", number)));
    }
    for (const char* rank : {"0", "1"}) {
      EXPECT_FALSE(Has(store, absl::StrCat(Shutdown(store), "ARRIVED_ID_",
                                           number, "/", rank)));
    }
  }
  EXPECT_TRUE(Has(store, Shutdown(store) + "READY_ID_6"));
}

TEST(JoinTest, NumbersInTheStoreThatCannotBeDoNotEndAJoin) {
  for (const char* joined : {"1 9223372036854775807", "1 -7"}) {
    Cluster cluster;
    cluster.Start(2, Echo());
    ASSERT_TRUE(cluster.store()
                    ->Set(Shutdown(*cluster.store()) + "JOINED", joined, Soon())
                    .ok());
    JoinAll(cluster);
    EXPECT_TRUE(
        Has(*cluster.store(), Shutdown(*cluster.store()) + "READY_ID_2"))
        << joined;
  }
}

TEST(JoinTest, ANumberThatIsFarAheadHoldsUpNoJoin) {
  Cluster cluster;
  cluster.Start(2, Echo());
  ASSERT_TRUE(cluster.store()
                  ->Set(Shutdown(*cluster.store()) + "JOINED",
                        "1 4000000000000000000", Soon())
                  .ok());
  JoinAll(cluster);
  JoinAll(cluster);  // tidies up, but not without end
}

TEST(JoinTest, AWorkerThatWasRestartedCatchesUp) {
  Cluster cluster;
  cluster.Start(2, Echo());
  JoinAll(cluster);
  JoinAll(cluster);  // its keys are still there, those before are not
  cluster.Stop(1);
  ASSERT_TRUE(cluster.StartOne(OptionsFor(1, 2), Echo(), Soon()).ok());
  EXPECT_TRUE(cluster[1].Join(Soon()).ok());
  EXPECT_TRUE(cluster[1].Join(Soon()).ok());
  JoinAll(cluster);
  EXPECT_EQ(*cluster.store()->TryGet(
                Shutdown(*cluster.store()) + "PROCESS_COUNT_ID_6", Soon()),
            "2");
}

TEST(JoinTest, AWorkerThatDiesInABarrierIsNotCountedTwice) {
  Cluster cluster;
  cluster.Start(3, Echo());
  // It came, and went away again.
  EXPECT_EQ(cluster[2].Join(InMillis(300)).code(),
            absl::StatusCode::kDeadlineExceeded);
  cluster.Stop(2);
  EXPECT_EQ(*cluster.store()->TryGet(
                Shutdown(*cluster.store()) + "PROCESS_COUNT_ID_1", Soon()),
            "1");
  ASSERT_TRUE(cluster.StartOne(OptionsFor(2, 3), Echo(), Soon()).ok());
  EXPECT_EQ(cluster[2].Join(InMillis(300)).code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(*cluster.store()->TryGet(
                Shutdown(*cluster.store()) + "PROCESS_COUNT_ID_1", Soon()),
            "1");
  JoinAll(cluster);
}

TEST(JoinTest, AdditionsThatFailAreNeverDoneTwice) {
  // The counters of barriers fail now before, now after they were added to:
  // w1 cannot know which. The records tell.
  Cluster whole;
  Mutex mutex(RealRuntime(), "test");
  std::map<std::string, int> additions;
  const auto fail = [&](const std::string& call, const std::string& key,
                        const char* number) {
    if (call != "Add" || !absl::EndsWith(key, number) ||
        !absl::StrContains(key, "PROCESS_COUNT")) {
      return absl::OkStatus();
    }
    MutexLock lock(mutex);
    return ++additions[key] == 1 ? absl::UnavailableError("down")
                                 : absl::OkStatus();
  };
  Cluster cluster(MakeHookedStore(
      whole.store(),
      [&](const std::string& call, const std::string& key) {
        return fail(call, key, "_1");
      },
      [&](const std::string& call, const std::string& key) {
        return fail(call, key, "_2");
      }));
  cluster.Start(2, Echo());
  JoinAll(cluster);
  EXPECT_EQ(*whole.store()->TryGet(
                Shutdown(*whole.store()) + "PROCESS_COUNT_ID_1", Soon()),
            "1");
  EXPECT_EQ(*whole.store()->TryGet(
                Shutdown(*whole.store()) + "PROCESS_COUNT_ID_2", Soon()),
            "2");
}

// A stock worker as the others see it in the store. It writes no features.
void AddStock(Store& store, int64_t id, const std::string& name) {
  ASSERT_TRUE(store.Set(absl::StrCat("names/", id), name, Soon()).ok());
  ASSERT_TRUE(
      store.Set(absl::StrCat("addrs/", name), "uv://127.0.0.1:1", Soon()).ok());
}

TEST(JoinTest, KeysAreThoseOfStockWorkers) {
  Cluster cluster;
  AddStock(*cluster.store(), 1, "stock");
  for (const char* number : {"1", "2"}) {
    ASSERT_TRUE(
        cluster.store()
            ->Add(absl::StrCat("shutdown/PROCESS_COUNT_ID_", number), 1, Soon())
            .ok());
  }
  ASSERT_TRUE(cluster.StartOne(OptionsFor(0, 2), Echo(), Soon()).ok());
  EXPECT_TRUE(cluster[0].Join(Soon()).ok());
  Store& store = *cluster.store();
  EXPECT_EQ(*store.TryGet("shutdown/PROCESS_COUNT_ID_1", Soon()), "2");
  EXPECT_EQ(*store.TryGet("shutdown/ACTIVE_CALLS_ID_1", Soon()), "0");
  EXPECT_EQ(*store.TryGet("shutdown/READY_ID_2", Soon()), "");
}

TEST(JoinTest, StockWorkersThatHaveComeAreNotMissing) {
  Cluster cluster;
  AddStock(*cluster.store(), 1, "s1");
  AddStock(*cluster.store(), 2, "s2");
  ASSERT_TRUE(cluster.StartOne(OptionsFor(0, 3), Echo(), Soon()).ok());
  EXPECT_THAT(Text(cluster[0].Join(InMillis(2000))),
              HasSubstr("barrier 1: 1 of 3 workers arrived; missing: s1, s2"));
  const std::string count = "shutdown/PROCESS_COUNT_ID_1";
  ASSERT_TRUE(cluster.store()->Add(count, 1, Soon()).ok());
  EXPECT_THAT(Text(cluster[0].Join(InMillis(2000))),
              HasSubstr("2 of 3 workers arrived; missing: 1 of s1 and s2"));
}

TEST(JoinTest, PatientWithAStoreThatFailsNowAndThen) {
  Cluster whole;
  Mutex mutex(RealRuntime(), "test");
  std::map<std::string, int> accesses;
  Cluster cluster(MakeHookedStore(
      whole.store(),
      [&](const std::string& call, const std::string& key) {
        MutexLock lock(mutex);
        return call == "Get" || ++accesses[call + key] % 2 == 0
                   ? absl::OkStatus()
                   : absl::UnavailableError("down");
      },
      nullptr));
  cluster.Start(2, Echo());
  JoinAll(cluster);
  EXPECT_GT(accesses.size(), 6u);
}

TEST(JoinTest, NonsenseInTheStore) {
  Cluster cluster;
  cluster.Start(1, Echo());
  ASSERT_TRUE(cluster.store()
                  ->Set(Shutdown(*cluster.store()) + "ACTIVE_CALLS_ID_1",
                        "many", Soon())
                  .ok());
  EXPECT_EQ(cluster[0].Join(Soon()).code(), absl::StatusCode::kInvalidArgument);
}

TEST(JoinTest, ShutdownEndsIt) {
  Recorder recorder;
  Cluster cluster;
  cluster.set_observer(&recorder);
  cluster.Start(2, Echo());
  const std::unique_ptr<Thread> joining =
      RealRuntime().StartThread("joining", [&] {
        EXPECT_EQ(cluster[0].Join(absl::InfiniteFuture()).code(),
                  absl::StatusCode::kCancelled);
      });
  ASSERT_TRUE(recorder.WaitFor("entered 1"));
  EXPECT_EQ(cluster[0].Join(Soon()).code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(cluster[0].Shutdown(Soon()).ok());
  joining->Join();
  EXPECT_EQ(recorder.events().back(), "shutdown");
}

}  // namespace
}  // namespace reprise::testing

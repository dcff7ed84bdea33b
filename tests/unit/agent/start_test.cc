// Starting an agent: options, and meeting the others in the store.

#include <limits>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/agent.h"
#include "agent/options.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"
#include "tests/unit/agent/hooked_store.h"
#include "tests/unit/agent/recorder.h"

namespace reprise::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Text(const absl::Status& status) {
  return std::string(status.message());
}

TEST(OptionsTest, AreChecked) {
  EXPECT_TRUE(Validate(OptionsFor(0, 1)).ok());
  const auto error = [](void (*change)(AgentOptions&)) {
    AgentOptions options = OptionsFor(1, 4);
    change(options);
    const absl::Status status = Validate(options);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return Text(status);
  };
  EXPECT_EQ(error([](AgentOptions& o) { o.num_worker_threads = 0; }),
            "num_worker_threads must be positive, got 0");
  EXPECT_EQ(error([](AgentOptions& o) { o.rpc_timeout = -absl::Seconds(1); }),
            "RPC Timeout must be non-negative");
  EXPECT_EQ(error([](AgentOptions& o) {
              o.id = 32768;
              o.world_size = 40000;
            }),
            "RPC worker id 32768 out of bound of int16_t.");
  EXPECT_THAT(error([](AgentOptions& o) { o.id = -1; }),
              HasSubstr("out of bound of int16_t"));
  EXPECT_THAT(error([](AgentOptions& o) { o.id = 4; }),
              HasSubstr("world_size"));
  EXPECT_THAT(error([](AgentOptions& o) { o.world_size = 32769; }),
              HasSubstr("world_size"));
  for (void (*bad_name)(AgentOptions&) :
       {+[](AgentOptions& o) { o.name = ""; },
        +[](AgentOptions& o) { o.name = "a b"; },
        +[](AgentOptions& o) { o.name = "w\n"; },
        +[](AgentOptions& o) { o.name = std::string(128, 'a'); }}) {
    EXPECT_THAT(error(bad_name),
                HasSubstr("Worker name must match regex [A-Za-z0-9-_:]*"));
  }
  EXPECT_THAT(error([](AgentOptions& o) { o.max_pending_calls_per_peer = 0; }),
              HasSubstr("max_pending_calls_per_peer"));
  EXPECT_THAT(
      error([](AgentOptions& o) { o.connect_timeout = absl::ZeroDuration(); }),
      HasSubstr("connect_timeout"));
  EXPECT_THAT(
      error([](AgentOptions& o) { o.store_timeout = absl::ZeroDuration(); }),
      HasSubstr("store_timeout"));

  AgentOptions longest = OptionsFor(32767, 32768);
  longest.name = std::string(122, 'a') + "-_:9Z";
  EXPECT_TRUE(Validate(longest).ok()) << Validate(longest);
}

TEST(OptionsTest, DefaultsAreThoseOfPyTorch) {
  const AgentOptions options;
  EXPECT_EQ(options.rpc_timeout, absl::Seconds(60));
  EXPECT_EQ(options.num_worker_threads, 16);
  EXPECT_EQ(kUnsetTimeout, -absl::Seconds(1));
  EXPECT_EQ(CallOptions().timeout, kUnsetTimeout);
}

TEST(StartTest, RefusesBadOptionsAndUnknownTransports) {
  Cluster cluster;
  AgentOptions options = OptionsFor(0, 1);
  options.num_worker_threads = 0;
  EXPECT_EQ(cluster.StartOne(options, Echo(), Soon()).code(),
            absl::StatusCode::kInvalidArgument);
  options = OptionsFor(0, 1);
  options.transport.transports = {"pigeon"};
  EXPECT_THAT(Text(cluster.StartOne(options, Echo(), Soon())),
              HasSubstr("Unknown transport: pigeon"));
  EXPECT_EQ(cluster.StartOne(OptionsFor(0, 1), nullptr, Soon()).code(),
            absl::StatusCode::kInvalidArgument);
  // Nothing of this was published.
  EXPECT_EQ(cluster.store()->TryGet("names/0", Soon()).status().code(),
            absl::StatusCode::kNotFound);
}

TEST(StartTest, PublishesWhatStockWorkersLookFor) {
  Cluster cluster;
  cluster.Start(2, Echo());
  Store& store = *cluster.store();
  EXPECT_EQ(*store.TryGet("rpcIsStaticGroup", Soon()), "true");
  EXPECT_EQ(*store.TryGet("names/0", Soon()), "w0");
  EXPECT_EQ(*store.TryGet("names/1", Soon()), "w1");
  EXPECT_THAT(*store.TryGet("addrs/w1", Soon()), HasSubstr("uv://127.0.0.1:"));
}

TEST(StartTest, TheLeastPreferredTransportIsPublished) {
  for (const TransportProbe& probe : ProbeRealTransports("127.0.0.1")) {
    if (probe.name == "shm" && !probe.viable) GTEST_SKIP() << probe.detail;
  }
  const std::vector<std::vector<std::string>> lists = {{"shm", "uv"},
                                                       {"uv", "shm"}};
  for (const std::vector<std::string>& list : lists) {
    Cluster cluster;
    cluster.Start(1, Echo(), [&](AgentOptions& options) {
      options.transport.transports = list;
    });
    EXPECT_THAT(*cluster.store()->TryGet("addrs/w0", Soon()),
                StartsWith(list[1] + "://"));
  }
}

// Its transports cannot say that an address will not do before they listen.
class Heedless : public TransportProvider {
 public:
  explicit Heedless(std::string address) : address_(std::move(address)) {}
  absl::StatusOr<TransportSet> Make(const TransportOptions& options,
                                    Devices* devices) override {
    absl::StatusOr<TransportSet> set = RealTransports().Make(options, devices);
    if (!set.ok()) return set;
    for (TransportEntry& transport : set->transports) {
      transport.address = address_;
      transport.try_to_listen = nullptr;
    }
    return set;
  }

 private:
  const std::string address_;
};

TEST(StartTest, AnAddressThatIsTakenMeanwhile) {
  Cluster cluster;
  cluster.Start(1, Echo());
  std::string taken = *cluster.store()->TryGet("addrs/w0", Soon());
  Heedless transports(taken.substr(std::string("uv://").size()));
  Environment environment;
  environment.runtime = &RealRuntime();
  environment.store = MakeMemoryStore(RealRuntime());
  environment.transports = &transports;
  const absl::Status status =
      Agent::Start(environment, OptionsFor(0, 1), Echo(), Soon()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_THAT(Text(status), HasSubstr("cannot listen at " + taken));
  EXPECT_FALSE(environment.store->TryGet("addrs/w0", Soon()).ok());
}

TEST(StartTest, NamesMustBeUnique) {
  Cluster cluster;
  std::vector<AgentOptions> options;
  for (int64_t id = 0; id < 3; ++id) options.push_back(OptionsFor(id, 3));
  options[2].name = "w0";
  for (const absl::Status& status : cluster.TryStart(options, Echo(), Soon())) {
    EXPECT_EQ(status, absl::AlreadyExistsError(
                          "RPC worker name w0 is not unique. Workers 0 and 2 "
                          "share the same name."));
  }
}

TEST(StartTest, IdsMustBeUnique) {
  Cluster cluster;
  ASSERT_TRUE(cluster.StartOne(OptionsFor(0, 1), Echo(), Soon()).ok());
  AgentOptions other = OptionsFor(0, 1);
  other.name = "other";
  Cluster same_store(cluster.store());
  const absl::Status status = same_store.StartOne(other, Echo(), Soon());
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(Text(status), HasSubstr("'w0'"));
  EXPECT_THAT(Text(status), HasSubstr("'other'"));
}

TEST(StartTest, NamesWhoIsMissing) {
  Cluster cluster;
  cluster.TryStart({OptionsFor(0, 4)}, Echo(),
                   RealRuntime().Now() + absl::Milliseconds(400));
  const absl::Status status = cluster.StartOne(
      OptionsFor(2, 4), Echo(), RealRuntime().Now() + absl::Milliseconds(400));
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(Text(status),
              HasSubstr("2 of 4 workers came; missing: rank 1, rank 3"));
}

TEST(StartTest, NamesWhoseAddressIsMissing) {
  Cluster cluster;
  // A worker that dies between its name and its address.
  ASSERT_TRUE(cluster.store()->Set("names/1", "w1", Soon()).ok());
  const absl::Status status = cluster.StartOne(
      OptionsFor(0, 2), Echo(), RealRuntime().Now() + absl::Milliseconds(400));
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(Text(status), HasSubstr("missing: the address of w1"));
}

TEST(StartTest, ATwinOfALiveWorkerIsRefused) {
  Cluster cluster;
  ASSERT_TRUE(cluster.StartOne(OptionsFor(0, 1), Echo(), Soon()).ok());
  Cluster other(cluster.store());
  const absl::Status twin = other.StartOne(OptionsFor(0, 1), Echo(), Soon());
  EXPECT_EQ(twin.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(Text(twin), HasSubstr("RPC worker name w0 is not unique. "));
  EXPECT_TRUE(cluster[0].Send("w0", Request("")).status().ok());
}

TEST(StartTest, OfTwinsThatStartAtOnceOneStarts) {
  for (int round = 0; round < 5; ++round) {
    Cluster store;
    Cluster first(store.store()), second(store.store());
    absl::Status statuses[2];
    const std::unique_ptr<Thread> thread =
        RealRuntime().StartThread("twin", [&] {
          statuses[1] = second.StartOne(OptionsFor(0, 1), Echo(), Soon());
        });
    statuses[0] = first.StartOne(OptionsFor(0, 1), Echo(), Soon());
    thread->Join();
    EXPECT_NE(statuses[0].ok(), statuses[1].ok())
        << statuses[0] << ", " << statuses[1];
  }
}

TEST(StartTest, WhatAnEarlierRunHasLeftIsNoMember) {
  Cluster cluster;
  cluster.Start(2, Echo());
  cluster.OnEach([&](int64_t id) {
    EXPECT_TRUE(cluster[id].JoinForShutdown(Soon()).ok());
  });
  cluster.Stop(0);
  cluster.Stop(1);
  const absl::Status alone = cluster.StartOne(
      OptionsFor(0, 2), Echo(), RealRuntime().Now() + absl::Seconds(2));
  EXPECT_EQ(alone.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(Text(alone),
              HasSubstr("1 of 2 workers came; missing: w1 (of which the store "
                        "has an address: it is still starting, or an earlier "
                        "start has left it)"));
  cluster.Start(2, Echo());
  EXPECT_TRUE(cluster[0].Send("w1", Request("")).status().ok());
  // Nor do barriers of the earlier run count.
  EXPECT_EQ(
      cluster[0].Join(RealRuntime().Now() + absl::Milliseconds(300)).code(),
      absl::StatusCode::kDeadlineExceeded);
}

TEST(StartTest, AWorkerThatWasRestartedNeedsOneThatLives) {
  Cluster cluster;
  cluster.Start(3, Echo());
  cluster.Stop(1);
  cluster.Stop(2);
  // The group is the same one, so it need not wait for the other.
  const absl::Status again = cluster.StartOne(OptionsFor(1, 3), Echo(), Soon());
  ASSERT_TRUE(again.ok()) << again;
  EXPECT_TRUE(cluster[0].Send("w1", Request("")).status().ok());
  EXPECT_TRUE(cluster[1].Send("w0", Request("")).status().ok());
}

// As TCPStore servers of PyTorch 1.13 do, it does not wake a `Get` for what
// CompareSet has written. `Get` is what a stock worker does.
class SleepyStore {
 public:
  explicit SleepyStore(std::shared_ptr<Store> store)
      : hooked_(MakeHookedStore(
            std::move(store), nullptr,
            [this](const std::string& call, const std::string& key) {
              MutexLock lock(mutex_);
              if (call == "Set" || call == "Add") {
                set_.insert(key);
                changed_.NotifyAll();
              }
              return absl::OkStatus();
            })) {}

  const std::shared_ptr<Store>& store() const { return hooked_; }

  // Of a key that did not exist when the wait began.
  bool WaitAsStock(const std::string& key) {
    MutexLock lock(mutex_);
    while (!set_.contains(key)) {
      if (!changed_.WaitUntil(mutex_, Soon())) return false;
    }
    return true;
  }

 private:
  Mutex mutex_{RealRuntime(), "SleepyStore"};
  CondVar changed_{RealRuntime(), "SleepyStore.changed"};
  std::set<std::string> set_;
  const std::shared_ptr<Store> hooked_;
};

TEST(StartTest, AStockWorkerThatWaitsAlreadyIsWoken) {
  Cluster whole;
  SleepyStore sleepy(whole.store());
  Store& store = *whole.store();
  const std::unique_ptr<Thread> stock = RealRuntime().StartThread("stock", [&] {
    // As PyTorch's agent starts.
    EXPECT_TRUE(store.Set("names/1", "stock", Soon()).ok());
    EXPECT_TRUE(sleepy.WaitAsStock("names/0"));
    EXPECT_TRUE(store.Set("addrs/stock", "uv://127.0.0.1:1", Soon()).ok());
    EXPECT_TRUE(sleepy.WaitAsStock("addrs/w0"));
  });
  Cluster cluster(sleepy.store());
  const absl::Status started =
      cluster.StartOne(OptionsFor(0, 2), Echo(), Soon());
  EXPECT_TRUE(started.ok()) << started;
  stock->Join();
}

TEST(StartTest, ADeadlineThatHasPassed) {
  Cluster cluster;
  EXPECT_EQ(
      cluster.StartOne(OptionsFor(0, 2), Echo(), absl::InfinitePast()).code(),
      absl::StatusCode::kDeadlineExceeded);
}

TEST(StartTest, GroupsOfAnotherKind) {
  Cluster cluster;
  ASSERT_TRUE(cluster.store()->Set("rpcIsStaticGroup", "false", Soon()).ok());
  const absl::Status status =
      cluster.StartOne(OptionsFor(0, 1), Echo(), Soon());
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Text(status),
              HasSubstr("RPC group mixes statically and dynamically "
                        "initialized members which is not supported. "));
}

TEST(StartTest, NonsenseInTheStore) {
  Cluster cluster;
  ASSERT_TRUE(cluster.store()->Set("names/1", "no name\n", Soon()).ok());
  EXPECT_EQ(cluster.StartOne(OptionsFor(0, 2), Echo(), Soon()).code(),
            absl::StatusCode::kInvalidArgument);
  // An address is believed when it is needed, and costs the call no more.
  ASSERT_TRUE(cluster.store()->Set("names/1", "w1", Soon()).ok());
  for (const char* address : {"", "nowhere", "pigeon://here", "uv://", "uv://x",
                              "uv://127.0.0.1:99999999999"}) {
    ASSERT_TRUE(cluster.store()->Set("addrs/w1", address, Soon()).ok());
    ASSERT_TRUE(cluster.StartOne(OptionsFor(0, 2), Echo(), Soon()).ok());
    const Future reply = cluster[0].Send("w1", Request(""));
    ASSERT_TRUE(reply.Wait(Soon()));
    EXPECT_EQ(reply.status().code(), absl::StatusCode::kUnavailable)
        << address << ": " << reply.status();
    EXPECT_THAT(Text(reply.status()), HasSubstr("connection to w1 failed: "));
    cluster.Stop(0);
  }
}

TEST(StartTest, SeveralGroupsOverOneStore) {
  Cluster whole;
  Cluster first(MakePrefixStore(whole.store(), "first"));
  Cluster second(MakePrefixStore(whole.store(), "second"));
  first.Start(2, Echo());
  second.Start(3, Blocking([](const Message&,
                              const RequestInfo&) -> absl::StatusOr<Message> {
                 return Message{MessageType::kScriptRet, "second", {}};
               }));
  EXPECT_EQ(first[0].Send("w1", Request("first")).result()->payload, "first");
  EXPECT_EQ(second[0].Send("w1", Request("first")).result()->payload, "second");
  EXPECT_EQ(first[0].GetWorkerInfo("w2").status().code(),
            absl::StatusCode::kNotFound);
  // Each agent counts its barriers itself (defect 13).
  for (Cluster* cluster : {&first, &second, &first}) {
    cluster->OnEach([&](int64_t id) {
      const absl::Status status = (*cluster)[id].Join(Soon());
      EXPECT_TRUE(status.ok()) << status;
    });
  }
}

TEST(StartTest, PatientWithAStoreThatFailsNowAndThen) {
  // Every access fails at first, and an addition is not sure to be done.
  struct Failures {
    absl::Status operator()(const std::string& call, const std::string& key) {
      MutexLock lock(mutex);
      if (call == "Get" || ++count[call + key] % 2 == 0) {
        return absl::OkStatus();
      }
      return absl::UnavailableError("down");
    }
    Mutex mutex{RealRuntime(), "Failures"};
    std::map<std::string, int> count;
  };
  auto failures = std::make_shared<Failures>();
  Cluster whole;
  Cluster cluster(MakeHookedStore(
      whole.store(),
      [failures](const std::string& call, const std::string& key) {
        return (*failures)(call, key);
      },
      nullptr));
  cluster.Start(2, Echo());
  EXPECT_TRUE(cluster[0].Send("w1", Request("")).status().ok());
}

TEST(StartTest, AStoreThatIsDown) {
  Cluster whole;
  Cluster cluster(MakeHookedStore(
      whole.store(),
      [](const std::string&, const std::string&) {
        return absl::UnavailableError("nobody home");
      },
      nullptr));
  const absl::Status status = cluster.StartOne(
      OptionsFor(0, 1), Echo(), RealRuntime().Now() + absl::Milliseconds(30));
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(Text(status), HasSubstr("nobody home"));
}

TEST(StartTest, StartsAndStopsManyTimes) {
  Cluster cluster;
  for (int i = 0; i < 50; ++i) {
    Cluster again(MakePrefixStore(cluster.store(), absl::StrCat("round_", i)));
    again.Start(2, Echo());
    if (i % 2 == 0) {
      EXPECT_TRUE(again[0].Send("w1", Request("")).status().ok());
    }
    if (i % 5 == 0) again[1].Send("w0", Request("unanswered"));
  }
}

}  // namespace
}  // namespace reprise::testing

// The real TensorPipe core over the simulated network.

#include "sim/network/network.h"

#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/sim/network_testing.h"

namespace reprise {
namespace {

using testing::AnyOf;
using testing::HasSubstr;

Parcel SmallParcel() { return {"a payload", std::string(100, 't')}; }

Parcel BigParcel() {
  Parcel parcel{"a payload", std::string(size_t{1} << 20, ' ')};
  for (size_t i = 0; i < parcel.tensor.size(); ++i) {
    parcel.tensor[i] = static_cast<char>(i * 2654435761u >> 24);
  }
  return parcel;
}

void ExpectNothingLeft(NetworkWorld& world, Exchange& exchange) {
  EXPECT_TRUE(exchange.ended());
  EXPECT_EQ(world.network().num_open_endpoints(), 0);
}

class NetworkPolicyTest : public testing::TestWithParam<Policy> {};

INSTANTIATE_TEST_SUITE_P(All, NetworkPolicyTest, testing::ValuesIn(kPolicies));

TEST_P(NetworkPolicyTest, AMegabyteComesBack) {
  NetworkWorld world(With(GetParam()));
  Exchange exchange(world, BigParcel());
  ASSERT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_EQ(exchange.client_error(), "");
  EXPECT_EQ(exchange.server_error(), "");
  EXPECT_TRUE(exchange.came_back());
  // A megabyte each way takes its time at a gigabyte a second.
  EXPECT_GT(exchange.client_knew_ns(), 2 * kMillisecond);
  EXPECT_LT(exchange.client_knew_ns(), 100 * kMillisecond);
  ExpectNothingLeft(world, exchange);
}

TEST_P(NetworkPolicyTest, ManySeedsAndTheirHashes) {
  std::set<uint64_t> hashes;
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    uint64_t hash = 0;
    std::vector<std::unique_ptr<char[]>> ballast;
    for (int again = 0; again < 2; ++again) {
      WorldOptions options = With(GetParam(), seed);
      options.schedule.tensorpipe_locks = seed % 2 == 0;
      NetworkWorld world(options);
      Exchange exchange(world, SmallParcel());
      ASSERT_EQ(world.Run(), Outcome::kFinished) << "seed " << seed;
      EXPECT_TRUE(exchange.came_back());
      ExpectNothingLeft(world, exchange);
      hashes.insert(world.world()->trace().hash());
      if (again == 0) hash = world.world()->trace().hash();
      EXPECT_EQ(world.world()->trace().hash(), hash) << "seed " << seed;
      for (size_t i = 0; i < seed % 7; ++i) {
        ballast.push_back(std::make_unique<char[]>(100 * i + seed));
      }
    }
  }
  EXPECT_EQ(hashes.size(), 100u) << "latencies are drawn in every schedule";
}

TEST_P(NetworkPolicyTest, AReplayOfTheRecordedDecisions) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    WorldOptions options = With(GetParam(), seed);
    std::vector<Decision> recording;
    uint64_t hash = 0;
    {
      NetworkWorld world(options);
      Exchange exchange(world, SmallParcel());
      ASSERT_EQ(world.Run(), Outcome::kFinished);
      recording = world.world()->decisions().kept();
      hash = world.world()->trace().hash();
    }
    options.recording = &recording;
    NetworkWorld world(options);
    Exchange exchange(world, SmallParcel());
    ASSERT_EQ(world.Run(), Outcome::kFinished);
    EXPECT_EQ(world.world()->trace().hash(), hash);
    EXPECT_EQ(world.world()->decisions().FirstMismatch(), "");
  }
}

TEST(NetworkTest, FramesStayInOrder) {
  NetworkOptions options;
  options.latency_spread_ns = 10 * kMillisecond;
  options.spike_one_in = 3;
  NetworkWorld world(With(Policy::kRandom, 4), options);
  constexpr int kMessages = 50;
  std::promise<std::string> url;
  world.world().Start(1, "server", [&] {
    auto context = world.MakeContext(1);
    auto listener = context->listen({"sim://"});
    url.set_value(listener->url("sim"));
    auto [error, pipe] = Accept(*listener);
    ASSERT_FALSE(error) << error.what();
    for (int i = 0; i < kMessages; ++i) {
      Parcel parcel;
      ASSERT_FALSE(Read(*pipe, parcel));
      EXPECT_EQ(parcel.payload, absl::StrCat("payload ", i));
      EXPECT_EQ(parcel.tensor, std::string(i + 1, 'x'));
    }
    pipe->close();
    context->join();
  });
  world.world().Start(0, "client", [&] {
    auto context = world.MakeContext(0);
    auto pipe = context->connect(url.get_future().get());
    for (int i = 0; i < kMessages; ++i) {
      Parcel parcel{absl::StrCat("payload ", i), std::string(i + 1, 'x')};
      ASSERT_FALSE(Write(*pipe, parcel));
    }
    Parcel none;
    EXPECT_TRUE(static_cast<bool>(Read(*pipe, none)));  // until it closes
    pipe->close();
    context->join();
  });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_EQ(world.network().num_open_endpoints(), 0);
}

// Connects to `address` and says what a write and a read of it say.
std::vector<std::string> ErrorsOfConnecting(NetworkWorld& world,
                                            const std::string& url) {
  auto context = world.MakeContext(0);
  auto pipe = context->connect(url);
  Parcel parcel = SmallParcel();
  std::vector<std::string> errors = {Write(*pipe, parcel).what()};
  errors.push_back(Read(*pipe, parcel).what());
  pipe->close();
  context->join();
  return errors;
}

TEST(NetworkTest, NobodyListens) {
  NetworkWorld world;
  world.world().Start(0, "client", [&] {
    for (const std::string& error : ErrorsOfConnecting(world, "sim://w1:99")) {
      EXPECT_THAT(error, HasSubstr("connection refused"));
    }
  });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_EQ(world.network().num_open_endpoints(), 0);
  EXPECT_EQ(world.injections(FaultKind::kRefuse), 0);
}

TEST(NetworkTest, RefusedForAWhile) {
  NetworkWorld world;
  world.network().RefuseConnects(1, kSecond);
  world.world().Start(1, "server", [&] {
    auto context = world.MakeContext(1);
    auto listener = context->listen({"sim://"});
    world.world().Start(0, "client", [&, url = listener->url("sim")] {
      EXPECT_THAT(ErrorsOfConnecting(world, url)[1],
                  HasSubstr("connection refused"));
      world.world().runtime(0).SleepUntil(
          world.world().After(absl::Seconds(1)));
      auto client = world.MakeContext(0);
      auto pipe = client->connect(url);
      Parcel parcel = SmallParcel();
      const tensorpipe::Error error = Write(*pipe, parcel);
      EXPECT_FALSE(error) << error.what();
      // The server closes first: an end of this connection could be seen there
      // before the tensor, which comes over another one.
      Parcel none;
      EXPECT_TRUE(Read(*pipe, none));
      pipe->close();
      client->join();
    });
    auto [error, pipe] = Accept(*listener);
    EXPECT_FALSE(error) << error.what();
    Parcel parcel;
    const tensorpipe::Error read = Read(*pipe, parcel);
    EXPECT_FALSE(read) << read.what();
    pipe->close();
    context->join();
  });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_EQ(world.injections(FaultKind::kRefuse), 1);
}

struct CutRun {
  bool struck = false;
  std::string client_error;
  std::string server_error;
};

CutRun RunWithCut(bool towards_server, int64_t byte, BreakKind kind,
                  uint64_t seed) {
  CutRun result;
  NetworkWorld world(With(Policy::kRandom, seed));
  world.network().CutAfter(towards_server ? 0 : 1, towards_server ? 1 : 0, byte,
                           kind);
  Exchange exchange(world, SmallParcel());
  EXPECT_EQ(world.Run(), Outcome::kFinished)
      << byte << ": "
      << testing::PrintToString(world.world()->DescribeFibers());
  EXPECT_TRUE(exchange.ended()) << byte;
  EXPECT_EQ(world.network().num_open_endpoints(), 0) << byte;
  result.struck = world.injections(FaultKind::kCut) == 1;
  result.client_error = exchange.client_error();
  result.server_error = exchange.server_error();
  // Whoever has all of it needs no error; the cut keeps somebody from that.
  EXPECT_EQ(result.struck,
            !result.client_error.empty() || !result.server_error.empty())
      << byte << ", client: " << result.client_error
      << ", server: " << result.server_error;
  if (exchange.came_back()) {
    EXPECT_EQ(result.client_error, "") << byte;
  }
  return result;
}

using CutCase = std::tuple<bool, BreakKind>;
class NetworkCutTest : public testing::TestWithParam<CutCase> {};

INSTANTIATE_TEST_SUITE_P(
    All, NetworkCutTest,
    testing::Combine(testing::Bool(),
                     testing::Values(BreakKind::kReset,
                                     BreakKind::kEndOfStream)));

TEST_P(NetworkCutTest, AtEveryByte) {
  const auto [towards_server, kind] = GetParam();
  std::set<std::string> client_errors;
  int64_t byte = 0;
  for (;; ++byte) {
    const CutRun run =
        RunWithCut(towards_server, byte, kind, static_cast<uint64_t>(byte));
    if (!run.struck) break;
    client_errors.insert(run.client_error);
    ASSERT_LT(byte, 100'000);
    if (HasFailure()) return;
  }
  // Both handshakes, of the pipe and of the channel, and what was sent.
  EXPECT_GT(byte, 250);
  std::string all;
  for (const std::string& error : client_errors) {
    absl::StrAppend(&all, error, "\n");
  }
  EXPECT_THAT(all,
              HasSubstr(kind == BreakKind::kReset ? "connection reset by peer"
                                                  : "end of file"));
}

TEST(NetworkTest, CutNowBreaksWhatIsOpen) {
  NetworkOptions slow;
  slow.bytes_per_second = 10;
  NetworkWorld slow_world(With(Policy::kCooperative), slow);
  const Parcel parcel = SmallParcel();
  Exchange exchange(slow_world, parcel, 1000 * kSecond);
  slow_world.world()->At(20 * kSecond, {0, 0}, [&] {
    EXPECT_GT(slow_world.network().num_open_endpoints(), 0);
    slow_world.network().Cut(1, 0, BreakKind::kReset);
  });
  EXPECT_EQ(slow_world.Run(), Outcome::kFinished);
  EXPECT_EQ(slow_world.injections(FaultKind::kCut), 1);
  EXPECT_FALSE(exchange.came_back());
  EXPECT_THAT(exchange.client_error(),
              AnyOf(HasSubstr("reset"), HasSubstr("end of file")));
  EXPECT_LT(exchange.client_knew_ns(), 21 * kSecond);
  ExpectNothingLeft(slow_world, exchange);
}

TEST(NetworkTest, CutWithNothingOpenDoesNotStrike) {
  NetworkWorld world;
  world.world()->At(1, {0, 0},
                    [&] { world.network().Cut(0, 1, BreakKind::kReset); });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_EQ(world.injections(FaultKind::kCut), 0);
}

TEST(NetworkTest, ALinkThatHealsDelays) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    NetworkWorld world(With(Policy::kRandom, seed));
    // In another phase with each seed.
    world.world()->At(static_cast<int64_t>(seed) * 30 * kMicrosecond, {0, 0},
                      [&] { world.network().Hold(1, 0, 5 * kSecond); });
    Exchange exchange(world, SmallParcel());
    ASSERT_EQ(world.Run(), Outcome::kFinished);
    EXPECT_TRUE(exchange.came_back()) << seed << exchange.client_error();
    EXPECT_EQ(exchange.client_error(), "");
    // Whatever was sent in it comes after it; nothing else is late.
    EXPECT_TRUE(exchange.client_knew_ns() >= 5 * kSecond ||
                exchange.client_knew_ns() < 100 * kMillisecond)
        << seed;
    if (seed <= 10) {
      EXPECT_GT(world.injections(FaultKind::kHold), 0) << seed;
      EXPECT_GE(exchange.client_knew_ns(), 5 * kSecond) << seed;
    }
    ExpectNothingLeft(world, exchange);
  }
}

TEST(NetworkTest, APartitionEndsWhenTheEndsClose) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    NetworkWorld world(With(Policy::kRandom, seed));
    world.world()->At(static_cast<int64_t>(seed - 1) * 30 * kMicrosecond,
                      {0, 0},
                      [&] { world.network().Hold(0, 1, Scheduler::kNever); });
    Exchange exchange(world, SmallParcel());
    ASSERT_EQ(world.Run(), Outcome::kFinished)
        << seed << testing::PrintToString(world.world()->DescribeFibers());
    if (world.injections(FaultKind::kPartition) > 0 && !exchange.came_back()) {
      EXPECT_THAT(exchange.client_error(), HasSubstr("closed")) << seed;
      EXPECT_EQ(exchange.client_knew_ns() / kSecond, 10) << seed;
    }
    if (seed == 1) {
      EXPECT_FALSE(exchange.came_back());
    }
    ExpectNothingLeft(world, exchange);
  }
}

TEST(NetworkTest, ADroppedConnectKillsABareListener) {
  NetworkWorld world;
  world.world().Start(1, "server", [&] {
    auto context = world.MakeContext(1);
    auto listener = context->listen({"sim://"});
    const std::string url = listener->url("sim");
    world.world()->At(kMillisecond, {0, 0},
                      [&] { world.network().DropConnect(1); });
    auto [error, pipe] = Accept(*listener);
    EXPECT_TRUE(static_cast<bool>(error));
    // Its port is closed.
    auto client = world.world().Start(0, "client", [&, url] {
      EXPECT_THAT(ErrorsOfConnecting(world, url)[1],
                  HasSubstr("connection refused"));
    });
    EXPECT_NE(client, nullptr);
    // Another one works.
    auto second = context->listen({"sim://"});
    EXPECT_NE(second->url("sim"), url);
    listener->close();
    second->close();
    context->join();
  });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_EQ(world.injections(FaultKind::kDropConnect), 1);
  EXPECT_EQ(world.network().num_open_endpoints(), 0);
}

TEST(NetworkTest, ADroppedConnectToNobodyDoesNotStrike) {
  NetworkWorld world;
  world.world()->At(1, {0, 0}, [&] { world.network().DropConnect(1); });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  EXPECT_EQ(world.injections(FaultKind::kDropConnect), 0);
}

TEST(NetworkTest, ACrashResetsThePeersConnections) {
  int resets = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    NetworkWorld world(With(Policy::kRandom, seed));
    // The server, in every phase.
    world.world()->At(static_cast<int64_t>(seed) * 15 * kMicrosecond, {0, 0},
                      [&] { world.world()->Crash(world.world().node(1)); });
    // On the heap: what crashed refers to it.
    auto* const exchange = new Exchange(world, SmallParcel());
    const Outcome outcome = world.Run();
    if (exchange->client_knew_ns() < 0) {
      // It died before it said where it listens.
      EXPECT_EQ(outcome, Outcome::kDeadlock);
      continue;
    }
    ASSERT_EQ(outcome, Outcome::kFinished)
        << seed << testing::PrintToString(world.world()->DescribeFibers());
    if (!exchange->came_back()) {
      EXPECT_NE(exchange->client_error(), "");
      EXPECT_LT(exchange->client_knew_ns(), kSecond) << seed;
    }
    if (exchange->client_error().find("reset") != std::string::npos) ++resets;
    // The dead one's ends are gone from the network, too.
    EXPECT_EQ(world.network().num_open_endpoints(), 0);
  }
  EXPECT_GT(resets, 10);
}

TEST(NetworkTest, WhoDiesAtAnAcceptIsNotConnected) {
  for (const int32_t victim : {0, 1}) {
    SCOPED_TRACE(victim);
    NetworkWorld world;
    world.world()->trace().AddListener([&](const Event& event) {
      if (event.kind == EventKind::kAccept) {
        world.world()->Crash(world.world().node(victim));
      }
    });
    std::string url;
    world.world().Start(1, "server", [&] {
      // Abandoned, when it is the victim.
      auto context = world.MakeContext(1);
      auto listener = context->listen({"sim://"});
      url = listener->url("sim");
      world.world().runtime(1).SleepUntil(
          world.world().After(absl::Milliseconds(10)));
      EXPECT_EQ(world.network().num_open_endpoints(), 0);
      listener->close();
      context->join();
    });
    bool refused = false;
    world.world()->At(kMillisecond, {0, 0}, [&] {
      world.world().Start(0, "client", [&] {
        EXPECT_THAT(ErrorsOfConnecting(world, url)[1],
                    HasSubstr("connection refused"));
        refused = true;
      });
    });
    EXPECT_EQ(world.Run(), Outcome::kFinished);
    EXPECT_EQ(refused, victim == 1);
  }
}

TEST(NetworkTest, ARestartedNodeListensElsewhere) {
  NetworkWorld world;
  std::vector<std::string> urls;
  const auto serve = [&] {
    auto context = world.MakeContext(1);
    auto listener = context->listen({"sim://"});
    urls.push_back(listener->url("sim"));
    world.world().runtime(1).SleepUntil(
        world.world().After(absl::Milliseconds(10)));
    listener->close();
    context->join();
  };
  world.world().Start(1, "server", serve);
  world.world()->At(kMillisecond, {0, 0}, [&] {
    world.world()->Crash(world.world().node(1));
    world.world().Restart(1);
    world.world().Start(1, "server", serve);
  });
  world.world()->At(5 * kMillisecond, {0, 0}, [&] {
    world.world().Start(0, "client", [&] {
      // The dead one's port is closed; the new one's is another.
      EXPECT_THAT(ErrorsOfConnecting(world, urls[0])[1],
                  HasSubstr("connection refused"));
    });
  });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
  ASSERT_EQ(urls.size(), 2u);
  EXPECT_NE(urls[0], urls[1]);
}

}  // namespace
}  // namespace reprise

// What clients of a TCPStore server can do to it and to each other: nothing.

#include <sys/resource.h>

#include <cstdint>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/runtime/runtime.h"
#include "agent/store/tcp_store.h"
#include "agent/store/tcp_store_server.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/store/raw_client.h"

namespace reprise {
namespace {

absl::Time Later() { return RealRuntime().Now() + absl::Minutes(5); }

void Pause() {
  RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(1));
}

// The most memory that this process has had since the last reset.
void ResetPeakMemory() { std::ofstream("/proc/self/clear_refs") << "5"; }

int64_t PeakMemoryMiB() {
  std::ifstream status("/proc/self/status");
  std::string word;
  int64_t kib = 0;
  while (status >> word) {
    if (word == "VmHWM:") status >> kib;
  }
  return kib >> 10;
}

class Served {
 public:
  explicit Served(const TcpStoreServerOptions& options = {}) {
    auto server = TcpStoreServer::Start(RealRuntime(), options);
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    good_ = *OpenTcpStore(RealRuntime(), Url());
  }

  std::string Url() const {
    return absl::StrCat("tcp://127.0.0.1:", server_->port());
  }
  RawClient Connect() const { return RawClient(server_->port()); }
  RawClient Connect2() const {
    RawClient client = Connect();
    client.Send(Handshake());
    return client;
  }
  TcpStoreServer::Counts counts() const { return server_->counts(); }
  void AwaitConnections(int64_t number) const {
    while (server_->counts().connections != number) Pause();
  }

  // A client that behaves is served.
  void ExpectGood() {
    const std::string value = absl::StrCat(++values_);
    ASSERT_TRUE(good_->Set("good", value, Later()).ok());
    EXPECT_EQ(good_->Get("good", Later()).value_or(""), value);
  }

 private:
  std::unique_ptr<TcpStoreServer> server_;
  std::shared_ptr<Store> good_;
  int values_ = 0;
};

TEST(TcpStoreHostileTest, WhatIsNotAQueryEndsItsConnection) {
  const std::string huge = Number(UINT64_MAX);
  const std::string nul(1, '\0');
  const std::vector<std::string> nonsense = {
      "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
      "\x16\x03\x01\x02",      // TLS
      "\xce\xf7\x85\x3c\x00",  // the number without its byte
      nul + "\xce\xf7\x85\x3d" + std::string(4, '\0'),
      Query(13),  // no query of protocol 1
      Query(255),
      Query(0, huge),  // a key of 2^64 bytes
      Query(0, Number((1 << 20) + 1)),
      Query(0, String("k"), huge),
      Query(0, String("k"), Number((64 << 20) + 1)),
      Query(4, huge),  // 2^64 keys
      Query(5, Number((128 << 10) + 1)),
      Query(2, String("missing")),
      Handshake() + Query(0, Number(kTcpStoreMagic, 4)),  // twice
      Handshake() + Query(19),
      Handshake() + Query(3, String("missing")),
      Handshake() + Query(10, Number(1), String("missing")),
      Handshake() + Query(11, huge),
      Query(0, String("word"), String("x")) +
          Query(3, String("word"), Number(1)),
      Query(0, String("word"), String("x")) + Handshake() + Number(0, 4),
  };
  Served served;
  for (size_t i = 0; i < nonsense.size(); ++i) {
    RawClient client = served.Connect();
    client.Send(nonsense[i]);
    EXPECT_EQ(client.ReceiveAll(), "") << i;
    served.ExpectGood();
  }
  while (served.counts().dropped != static_cast<int64_t>(nonsense.size())) {
    Pause();
  }
}

// Some of it is a query by chance. Whatever it is, others are served.
TEST(TcpStoreHostileTest, Noise) {
  TcpStoreServerOptions options;
  options.max_bytes = 1 << 20;
  Served served(options);
  std::mt19937_64 random(20);
  for (int round = 0; round < 300; ++round) {
    std::string bytes = random() % 2 == 0 ? Handshake() : "";
    const size_t length = random() % 400;
    while (bytes.size() < length) {
      switch (random() % 4) {
        case 0:
          bytes.push_back(static_cast<char>(random() % 20));
          break;
        case 1:
          bytes += Number(random() % 3);
          break;
        case 2:
          bytes += String(std::string(random() % 5, 'k'));
          break;
        default:
          bytes.push_back(static_cast<char>(random()));
      }
    }
    RawClient client = served.Connect();
    // In pieces, so that queries are cut anywhere.
    for (size_t at = 0; at < bytes.size(); at += 7) {
      client.Send(std::string_view(bytes).substr(at, 7));
    }
    if (round % 50 == 0) served.ExpectGood();
  }
  served.ExpectGood();
}

TEST(TcpStoreHostileTest, AQueryThatDoesNotBecomeWholeIsNotWaitedFor) {
  TcpStoreServerOptions options;
  options.request_timeout = absl::Milliseconds(50);
  Served served(options);
  for (const std::string& part :
       {Handshake().substr(0, 3), Query(0), Query(0, String("key")),
        Handshake() + Query(6, Number(2), String("key"))}) {
    RawClient client = served.Connect();
    client.Send(part);
    EXPECT_EQ(client.ReceiveAll(), "");
    served.ExpectGood();
  }
  // Bytes that trickle in do not make it longer.
  RawClient client = served.Connect();
  client.Send(Query(0, String("key"), Number(1 << 20)));
  while (client.SendSome("x")) Pause();
  EXPECT_EQ(served.counts().dropped, 5);
}

TEST(TcpStoreHostileTest, SilenceBetweenQueriesIsNoFault) {
  TcpStoreServerOptions options;
  options.request_timeout = absl::Milliseconds(20);
  Served served(options);
  RawClient silent = served.Connect();
  RawClient asked = served.Connect2();
  asked.Send(Query(7));
  EXPECT_EQ(asked.ReceiveNumber(), 0);
  RawClient waiting = served.Connect2();
  waiting.Send(Query(6, Number(1), String("late")));
  // One that is slow is closed; so the others have been looked at by then.
  for (int i = 0; i < 3; ++i) {
    RawClient slow = served.Connect();
    slow.Send(Query(0));
    EXPECT_EQ(slow.ReceiveAll(), "");
  }
  silent.Send(Query(6));
  EXPECT_EQ(silent.ReceiveNumber(), 0);
  asked.Send(Query(1, String("late"), String("")) + Query(7));
  EXPECT_EQ(asked.ReceiveNumber(), 1);
  EXPECT_EQ(waiting.Receive(1), std::string(1, '\0'));
}

// It asks for a long value again and again and takes no answer. The server
// stops to serve it, so what it has sent fills the kernel's buffers, and closes
// the connection in the end.
TEST(TcpStoreHostileTest, WhoTakesNoAnswersHoldsUpNobody) {
  TcpStoreServerOptions options;
  options.request_timeout = absl::Milliseconds(300);
  Served served(options);
  RawClient greedy = served.Connect();
  greedy.Send(Query(0, String("long"), String(std::string(8 << 20, 'v'))));
  std::string gets;
  while (gets.size() < 64 << 10) gets += Query(2, String("long"));
  ResetPeakMemory();
  const int64_t before = PeakMemoryMiB();
  while (greedy.SendSome(gets)) served.ExpectGood();
#ifndef __SANITIZE_ADDRESS__
  EXPECT_LT(PeakMemoryMiB(), before + 200);  // a few answers, not thousands
#endif
  EXPECT_GT(before, 0);
  served.ExpectGood();
  while (served.counts().dropped == 0) Pause();
  served.ExpectGood();
}

// A short query could ask for more than any memory has.
TEST(TcpStoreHostileTest, AnAnswerHasALimit) {
  Served served;
  RawClient client = served.Connect2();
  client.Send(Query(1, String("long"), String(std::string(8 << 20, 'v'))));
  std::string query = Query(10, Number(33));
  for (int i = 0; i < 33; ++i) query += String("long");
  client.Send(query);
  EXPECT_EQ(client.ReceiveAll(), "");
  served.ExpectGood();
}

TEST(TcpStoreHostileTest, WhatIsUnderWayHasALimitInAll) {
  TcpStoreServerOptions options;
  options.max_buffered_bytes = 1 << 20;
  Served served(options);
  std::vector<RawClient> hoarders;
  for (int i = 0; i < 8; ++i) {
    hoarders.push_back(served.Connect());
    hoarders.back().Send(Query(0, String("key"), Number(1 << 20)) +
                         std::string(200'000 + i, 'v'));
  }
  // The largest had to go.
  while (served.counts().dropped == 0) Pause();
  served.ExpectGood();
}

TEST(TcpStoreHostileTest, OneChangeForManyWatchersHasALimitToo) {
  TcpStoreServerOptions options;
  options.max_buffered_bytes = 20 << 20;
  Served served(options);
  const std::string set =
      Query(0, String("key"), String(std::string(8 << 20, 'v')));
  RawClient writer = served.Connect();
  writer.Send(set + Query(6));
  EXPECT_EQ(writer.ReceiveNumber(), 1);
  std::vector<RawClient> watchers;
  for (int i = 0; i < 40; ++i) {
    watchers.push_back(served.Connect());
    watchers.back().Send(Query(7, String("key")));
    EXPECT_EQ(watchers.back().Receive(1), "\x03");
  }
  // Each watcher is to be sent 16 MiB, and at most one can be. What is too much
  // is not even made.
  ResetPeakMemory();
  const int64_t before = PeakMemoryMiB();
  writer.Send(set + Query(6));
  EXPECT_EQ(writer.ReceiveNumber(), 1);
  while (served.counts().dropped < 39) Pause();
#ifndef __SANITIZE_ADDRESS__
  EXPECT_LT(PeakMemoryMiB(), before + 400);  // 640 for all
#endif
  EXPECT_GT(PeakMemoryMiB(), 0);
  served.ExpectGood();
}

TEST(TcpStoreHostileTest, AFullStoreTakesNoMoreAndGoesOn) {
  TcpStoreServerOptions options;
  options.max_bytes = 1 << 20;
  Served served(options);
  const auto store = *OpenTcpStore(RealRuntime(), served.Url());
  ASSERT_TRUE(store->Set("a", std::string(600'000, 'v'), Later()).ok());
  const absl::Status status =
      store->Set("b", std::string(600'000, 'v'), Later());
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_TRUE(absl::IsNotFound(store->TryGet("b", Later()).status()));
  // Waits are counted with the rest.
  RawClient waiter = served.Connect2();
  waiter.Send(Query(6, Number(1), String(std::string(600'000, 'k'))));
  EXPECT_EQ(waiter.ReceiveAll(), "");
  served.ExpectGood();
  EXPECT_TRUE(store->Delete("a", Later()).value_or(false));
  EXPECT_TRUE(store->Set("b", std::string(600'000, 'v'), Later()).ok());
}

TEST(TcpStoreHostileTest, WhoHasNeverAskedMakesRoom) {
  TcpStoreServerOptions options;
  options.max_connections = 8;
  Served served(options);
  served.ExpectGood();  // and keeps its connection
  std::vector<RawClient> silent;
  for (int i = 0; i < 30; ++i) silent.push_back(served.Connect());
  served.ExpectGood();
  // The last of them are still there.
  silent.back().Send(Query(6));
  EXPECT_EQ(silent.back().ReceiveNumber(), 1);
  EXPECT_EQ(silent.front().ReceiveAll(), "");
  // When all have asked, a new one is refused.
  std::vector<RawClient> busy;
  for (int i = 0; i < 6; ++i) {
    busy.push_back(served.Connect());
    busy.back().Send(Query(6));
    EXPECT_EQ(busy.back().ReceiveNumber(), 1);
  }
  RawClient late = served.Connect();
  EXPECT_EQ(late.ReceiveAll(), "");
  busy.back().Send(Query(6));
  EXPECT_EQ(busy.back().ReceiveNumber(), 1);
}

// The process has no descriptors left for a while.
TEST(TcpStoreHostileTest, RunningOutOfDescriptorsIsNotTheEnd) {
  Served served;
  served.ExpectGood();
  RawClient asked = served.Connect();
  asked.Send(Query(6));
  EXPECT_EQ(asked.ReceiveNumber(), 1);
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  RawClient waiting = served.Connect();
  served.AwaitConnections(3);
  const int lowest_free = dup(0);
  close(lowest_free);
  rlimit none = before;
  none.rlim_cur = static_cast<rlim_t>(lowest_free) + 1;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  // Our end takes the last descriptor, so the server has none for its end, and
  // `waiting`, which has not asked anything, makes room.
  RawClient last = served.Connect();
  last.Send(Query(6));
  EXPECT_EQ(waiting.ReceiveAll(), "");
  EXPECT_EQ(last.ReceiveNumber(), 1);
  asked.Send(Query(6));
  EXPECT_EQ(asked.ReceiveNumber(), 1);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  served.ExpectGood();
}

// With nobody to make room, a connection waits until there is a descriptor.
TEST(TcpStoreHostileTest, AConnectionWaitsForADescriptor) {
  Served served;
  served.ExpectGood();
  served.AwaitConnections(1);
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const int lowest_free = dup(0);
  close(lowest_free);
  rlimit none = before;
  none.rlim_cur = static_cast<rlim_t>(lowest_free) + 1;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  RawClient late = served.Connect();
  late.Send(Query(6));
  served.ExpectGood();
  EXPECT_EQ(served.counts().connections, 1);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(late.ReceiveNumber(), 1);
}

}  // namespace
}  // namespace reprise

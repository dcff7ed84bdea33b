// The server without PyTorch: the contract over it, and every query byte by
// byte, in both protocols. What stock clients see of it is in
// tcp_store_stock_test.cc, and what hostile ones can do in
// tcp_store_hostile_test.cc.

#include "agent/store/tcp_store_server.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/runtime/runtime.h"
#include "agent/store/tcp_store.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/store/raw_client.h"
#include "tests/unit/store/store_contract.h"

namespace reprise {
namespace {

using testing::HasSubstr;

absl::Time Later() { return RealRuntime().Now() + absl::Minutes(5); }

std::unique_ptr<TcpStoreServer> StartOrDie(
    const TcpStoreServerOptions& options = {}) {
  auto server = TcpStoreServer::Start(RealRuntime(), options);
  EXPECT_TRUE(server.ok()) << server.status();
  return *std::move(server);
}

std::shared_ptr<Store> OpenOrDie(const TcpStoreServer& server,
                                 const std::string& rest = "") {
  auto store = OpenTcpStore(
      RealRuntime(), absl::StrCat("tcp://127.0.0.1:", server.port(), rest));
  EXPECT_TRUE(store.ok()) << store.status();
  return *std::move(store);
}

class OurFixture : public StoreFixture {
 public:
  OurFixture(std::string rest, size_t max_key_bytes)
      : rest_(std::move(rest)), max_key_bytes_(max_key_bytes) {}

  bool ChecksCounters() override { return false; }
  size_t MaxKeyBytes() override { return max_key_bytes_; }
  Runtime& runtime() override { return RealRuntime(); }
  std::shared_ptr<Store> Open() override { return OpenOrDie(*server_, rest_); }

 private:
  const std::string rest_;
  const size_t max_key_bytes_;
  const std::unique_ptr<TcpStoreServer> server_ = StartOrDie();
};

StoreKind Kind(const std::string& name, const std::string& rest,
               size_t max_key_bytes) {
  return {name, [rest, max_key_bytes] {
            return std::make_unique<OurFixture>(rest, max_key_bytes);
          }};
}

// A client that is told nothing finds protocol 2, whose servers take keys of 8
// KiB with their "/".
INSTANTIATE_TEST_SUITE_P(OurServer, StoreContractTest,
                         testing::Values(Kind("Found", "", 8191),
                                         Kind("Told2", "?protocol=2", 8191),
                                         Kind("Told1", "?protocol=1", 1 << 20)),
                         StoreKindName);

class TcpStoreServerTest : public testing::Test {
 protected:
  RawClient Connect() const { return RawClient(server_->port()); }
  // A client of protocol 2.
  RawClient Connect2() const {
    RawClient client = Connect();
    client.Send(Handshake());
    return client;
  }
  // Returns once the server has counted so many clients that wait.
  void AwaitWaiting(int64_t number) const {
    while (server_->counts().waiting != number) {
      RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(1));
    }
  }

  const std::unique_ptr<TcpStoreServer> server_ = StartOrDie();
};

TEST_F(TcpStoreServerTest, Protocol1ByteByByte) {
  RawClient client = Connect();
  client.Send(Query(0, String("/key"), String("value")));  // SET
  client.Send(Query(2, String("/key")));                   // GET
  EXPECT_EQ(client.ReceiveString(), "value");
  client.Send(Query(1, String("/key"), String("value"), String("new")));
  EXPECT_EQ(client.ReceiveString(), "new");  // COMPARE_SET
  client.Send(Query(1, String("/key"), String("value"), String("newer")));
  EXPECT_EQ(client.ReceiveString(), "new");
  client.Send(Query(1, String("/none"), String("value"), String("x")));
  EXPECT_EQ(client.ReceiveString(), "value");
  client.Send(Query(3, String("/n"), Number(40)));  // ADD
  EXPECT_EQ(client.ReceiveNumber(), 40);
  client.Send(Query(3, String("/n"), Number(static_cast<uint64_t>(-42))));
  EXPECT_EQ(client.ReceiveNumber(), -2);
  client.Send(Query(4, Number(2), String("/key"), String("/n")));  // CHECK
  EXPECT_EQ(client.Receive(1), std::string(1, '\0'));
  client.Send(Query(4, Number(2), String("/key"), String("/none")));
  EXPECT_EQ(client.Receive(1), "\x01");
  client.Send(Query(5, Number(2), String("/key"), String("/n")));  // WAIT
  EXPECT_EQ(client.Receive(1), std::string(1, '\0'));
  client.Send(Query(6));  // GETNUMKEYS
  EXPECT_EQ(client.ReceiveNumber(), 2);
  client.Send(Query(8, String("/key")));  // DELETE_KEY
  EXPECT_EQ(client.ReceiveNumber(), 1);
  client.Send(Query(8, String("/key")));
  EXPECT_EQ(client.ReceiveNumber(), 0);
}

TEST_F(TcpStoreServerTest, Protocol2ByteByByte) {
  RawClient client = Connect2();
  client.Send(Query(13, Number(0xfeedbeef, 4)));  // PING
  EXPECT_EQ(client.Receive(4), Number(0xfeedbeef, 4));
  client.Send(Query(1, String("/key"), String("value")));  // SET
  client.Send(Query(3, String("/key")));                   // GET
  EXPECT_EQ(client.ReceiveString(), "value");
  client.Send(Query(9, String("/key"), String(" more")));  // APPEND
  client.Send(Query(9, String("/other"), String("first")));
  // MULTI_GET, of one key twice.
  client.Send(
      Query(10, Number(3), String("/key"), String("/other"), String("/key")));
  EXPECT_EQ(client.ReceiveString(), "value more");
  EXPECT_EQ(client.ReceiveString(), "first");
  EXPECT_EQ(client.ReceiveString(), "value more");
  client.Send(Query(11, Number(2), String("/a"), String("1"), String("/b"),
                    String("2")));  // MULTI_SET
  client.Send(Query(7));            // GETNUMKEYS
  EXPECT_EQ(client.ReceiveNumber(), 4);
  client.Send(Query(17));  // LIST_KEYS
  EXPECT_EQ(client.ReceiveNumber(), 4);
  std::vector<std::string> keys;
  for (int i = 0; i < 4; ++i) keys.push_back(client.ReceiveString());
  EXPECT_THAT(keys,
              testing::UnorderedElementsAre("/key", "/other", "/a", "/b"));
  client.Send(Query(8, String("/a")));  // DELETE_KEY
  EXPECT_EQ(client.ReceiveNumber(), 1);
  // No keys at all are there.
  client.Send(Query(5, Number(0)) + Query(6, Number(0)) + Query(10, Number(0)) +
              Query(11, Number(0)));
  EXPECT_EQ(client.Receive(2), std::string(2, '\0'));
}

TEST_F(TcpStoreServerTest, BothProtocolsSeeTheSameKeys) {
  const auto one = OpenOrDie(*server_, "?protocol=1");
  const auto two = OpenOrDie(*server_, "?protocol=2");
  ASSERT_TRUE(one->Set("key", "value", Later()).ok());
  EXPECT_EQ(two->Get("key", Later()).value_or(""), "value");
  EXPECT_EQ(two->Add("n", 2, Later()).value_or(0), 2);
  EXPECT_EQ(one->Add("n", 3, Later()).value_or(0), 5);
}

// A SET begins with the byte with which the handshake begins.
TEST_F(TcpStoreServerTest, AHandshakeIsKnownFromAQueryHoweverItIsCut) {
  const std::string set = Query(0, String("/key"), String("value"));
  for (size_t cut = 1; cut < set.size(); ++cut) {
    RawClient client = Connect();
    client.Send(set.substr(0, cut));
    // The server may have read it before the rest comes.
    server_->counts();
    client.Send(set.substr(cut) + Query(2, String("/key")));
    EXPECT_EQ(client.ReceiveString(), "value") << cut;
  }
  const std::string ping = Handshake() + Query(13, Number(7, 4));
  for (size_t cut = 1; cut < ping.size(); ++cut) {
    RawClient client = Connect();
    client.Send(ping.substr(0, cut));
    client.Send(ping.substr(cut));
    EXPECT_EQ(client.Receive(4), Number(7, 4)) << cut;
  }
}

TEST_F(TcpStoreServerTest, EveryKindOfWriteWakesAWait) {
  RawClient writer = Connect2();
  const std::vector<std::string> writes = {
      Query(1, String("k0"), String("")),               // SET
      Query(2, String("k1"), String(""), String("v")),  // COMPARE_SET
      Query(4, String("k2"), Number(1)),                // ADD
      Query(9, String("k3"), String("v")),              // APPEND
      Query(11, Number(1), String("k4"), String("v")),  // MULTI_SET
      Query(14, String("k5"), String("v")),             // QUEUE_PUSH
  };
  for (size_t i = 0; i < writes.size(); ++i) {
    RawClient waiter = Connect2();
    waiter.Send(Query(6, Number(1), String(absl::StrCat("k", i))));
    AwaitWaiting(1);
    writer.Send(writes[i]);
    EXPECT_EQ(waiter.Receive(1), std::string(1, '\0')) << i;
  }
}

TEST_F(TcpStoreServerTest, AWaitIsForAllItsKeys) {
  RawClient waiter = Connect2();
  RawClient writer = Connect2();
  waiter.Send(Query(6, Number(3), String("a"), String("b"), String("a")));
  AwaitWaiting(1);
  writer.Send(Query(1, String("a"), String("")));
  // It is written once more, and gone, before the other comes.
  writer.Send(Query(1, String("a"), String("")) + Query(8, String("a")));
  EXPECT_EQ(writer.ReceiveNumber(), 1);
  EXPECT_EQ(server_->counts().waiting, 1);
  writer.Send(Query(1, String("b"), String("")));
  EXPECT_EQ(waiter.Receive(1), std::string(1, '\0'));
  AwaitWaiting(0);
}

TEST_F(TcpStoreServerTest, AWaitIsCancelled) {
  RawClient waiter = Connect2();
  waiter.Send(Query(6, Number(1), String("never")));
  AwaitWaiting(1);
  waiter.Send(Query(12));
  EXPECT_EQ(waiter.Receive(1), "\x01");
  AwaitWaiting(0);
  // The answer may have been under way already; the client then gets both.
  waiter.Send(Query(12));
  EXPECT_EQ(waiter.Receive(1), "\x01");
  // Nothing is left of the wait, and what comes after it is served.
  waiter.Send(Query(1, String("never"), String("v")) +
              Query(3, String("never")));
  EXPECT_EQ(waiter.ReceiveString(), "v");
}

TEST_F(TcpStoreServerTest, AWaitEndsWithItsClient) {
  {
    RawClient waiter = Connect2();
    waiter.Send(Query(6, Number(2), String("a"), String("b")));
    AwaitWaiting(1);
  }
  AwaitWaiting(0);
  while (server_->counts().bytes != 0) {
    RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(1));
  }
  RawClient writer = Connect2();
  writer.Send(Query(1, String("a"), String("v")) + Query(3, String("a")));
  EXPECT_EQ(writer.ReceiveString(), "v");
}

TEST_F(TcpStoreServerTest, AQueueGivesEachValueToOne) {
  RawClient a = Connect2();
  RawClient b = Connect2();
  a.Send(Query(6, Number(1), String("queue")));
  AwaitWaiting(1);
  b.Send(Query(6, Number(1), String("queue")));
  AwaitWaiting(2);
  RawClient writer = Connect2();
  writer.Send(Query(14, String("queue"), String("one")));
  EXPECT_EQ(a.Receive(1), std::string(1, '\0'));
  AwaitWaiting(1);
  a.Send(Query(15, String("queue")));  // QUEUE_POP
  EXPECT_EQ(a.ReceiveNumber(), 1);
  EXPECT_EQ(a.ReceiveString(), "one");
  a.Send(Query(15, String("queue")));
  EXPECT_EQ(a.ReceiveNumber(), 0);
  writer.Send(Query(14, String("queue"), String("two")) +
              Query(14, String("queue"), String("three")) +
              Query(16, String("queue")));  // QUEUE_LEN
  EXPECT_EQ(writer.ReceiveNumber(), 2);
  EXPECT_EQ(b.Receive(1), std::string(1, '\0'));
  b.Send(Query(15, String("queue")));
  EXPECT_EQ(b.ReceiveNumber(), 2);
  EXPECT_EQ(b.ReceiveString(), "two");
}

TEST_F(TcpStoreServerTest, ABarrierEndsWithItsLastMember) {
  std::vector<RawClient> members;
  for (int i = 0; i < 3; ++i) {
    members.push_back(Connect2());
    members.back().Send(Query(18, String("barrier"), Number(4)));
    AwaitWaiting(i + 1);
  }
  RawClient last = Connect2();
  last.Send(Query(18, String("barrier"), Number(4)));
  EXPECT_EQ(last.Receive(1), std::string(1, '\0'));
  for (RawClient& member : members) {
    EXPECT_EQ(member.Receive(1), std::string(1, '\0'));
  }
  AwaitWaiting(0);
}

// Protocol 1 only: its client has a connection for that.
TEST_F(TcpStoreServerTest, WatchersLearnOfEachChange) {
  RawClient watcher = Connect();
  watcher.Send(Query(7, String("key")));  // WATCH_KEY
  EXPECT_EQ(watcher.Receive(1), "\x03");
  RawClient writer = Connect();
  writer.Send(Query(0, String("key"), String("one")) +
              Query(0, String("other"), String("x")) +
              Query(0, String("key"), String("two")) + Query(8, String("key")));
  const auto change = [&](char kind, const std::string& before,
                          const std::string& after) {
    EXPECT_EQ(watcher.Receive(1), std::string(1, kind));
    EXPECT_EQ(watcher.ReceiveString(), "key");
    EXPECT_EQ(watcher.ReceiveString(), before);
    EXPECT_EQ(watcher.ReceiveString(), after);
  };
  change('\x01', "", "one");
  change('\0', "one", "two");
  change('\x02', "two", "");
}

TEST_F(TcpStoreServerTest, CountersAreAsPyTorchHasThem) {
  const auto store = OpenOrDie(*server_);
  ASSERT_TRUE(store->Set("n", " 12abc", Later()).ok());
  EXPECT_EQ(store->Add("n", 1, Later()).value_or(0), 13);
  ASSERT_TRUE(store->Set("n", absl::StrCat(INT64_MAX), Later()).ok());
  EXPECT_EQ(store->Add("n", 1, Later()).value_or(0), INT64_MIN);
  for (const std::string value : {"", "abc", "-", "99999999999999999999"}) {
    ASSERT_TRUE(store->Set("n", value, Later()).ok());
    const absl::Status status = store->Add("n", 1, Later()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_EQ(store->TryGet("n", Later()).value_or("?"), value);
  }
}

TEST_F(TcpStoreServerTest, ThePortIsTaken) {
  TcpStoreServerOptions options;
  options.port = server_->port();
  const absl::Status status =
      TcpStoreServer::Start(RealRuntime(), options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("another program listens there"));
}

TEST(TcpStoreServerStartTest, AHostThatIsNotThisMachine) {
  for (const std::string host : {"192.0.2.1", "no.such.host.invalid"}) {
    TcpStoreServerOptions options;
    options.host = host;
    const absl::Status status =
        TcpStoreServer::Start(RealRuntime(), options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(host));
    EXPECT_THAT(std::string(status.message()), HasSubstr("this machine"));
  }
}

// Its port is free again at once, and its clients learn that it has gone.
TEST(TcpStoreServerStartTest, EndsWithClientsAndStartsAgain) {
  auto server = StartOrDie();
  TcpStoreServerOptions options;
  options.port = server->port();
  const auto store = OpenOrDie(*server);
  ASSERT_TRUE(store->Set("key", "value", Later()).ok());
  RawClient waiter(server->port());
  waiter.Send(Query(5, Number(1), String("never")));
  while (server->counts().waiting != 1) {
    RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(1));
  }
  server.reset();
  EXPECT_EQ(waiter.Receive(1), "");
  EXPECT_TRUE(absl::IsUnavailable(store->TryGet("key", Later()).status()));
  server = StartOrDie(options);
  EXPECT_TRUE(absl::IsNotFound(store->TryGet("key", Later()).status()));
}

}  // namespace
}  // namespace reprise

// The contract over a stock server, what PyTorch's client and ours see of each
// other, and servers that are restarted or say odd things. Protocol 2 is
// served by a fake, as Debian's PyTorch is 1.13.

#include "agent/store/tcp_store.h"

#include <atomic>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/runtime/runtime.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/store/fake_server.h"
#include "tests/unit/store/server_process.h"
#include "tests/unit/store/store_contract.h"

namespace reprise {
namespace {

using testing::HasSubstr;

constexpr char kPython[] = "/usr/bin/python3";
constexpr char kServerScript[] = "tests/unit/store/tcp_store_server.py";

absl::Time Later() { return RealRuntime().Now() + absl::Minutes(5); }
absl::Time Soon() { return RealRuntime().Now() + absl::Milliseconds(50); }

std::shared_ptr<Store> OpenOrDie(const std::string& url) {
  auto store = OpenTcpStore(RealRuntime(), url);
  EXPECT_TRUE(store.ok()) << store.status();
  return store.ok() ? *store : nullptr;
}

// PyTorch takes seconds to load, so one server serves all tests.
class StockServer {
 public:
  static StockServer& Get() {
    static auto* const server = new StockServer();
    return *server;
  }

  // Why there is no server, or "".
  const std::string& missing() const { return missing_; }
  std::string Url(const std::string& rest = "") const {
    return absl::StrCat("tcp://127.0.0.1:", port_, rest);
  }
  std::string Tell(const std::string& line) {
    process_.WriteLine(line);
    return process_.ReadLine();
  }

 private:
  StockServer() : process_(kPython, {"python3", kServerScript}) {
    const std::string line = process_.ReadLine();
    if (absl::StartsWith(line, "port ")) {
      port_ = line.substr(5);
    } else {
      missing_ = absl::StrCat("no PyTorch (tools/setup.sh --with-interop): ",
                              line.empty() ? "no python3" : line);
    }
  }

  ServerProcess process_;
  std::string port_;
  std::string missing_;
};

class StockFixture : public StoreFixture {
 public:
  explicit StockFixture(std::string rest) : rest_(std::move(rest)) {
    static int count = 0;
    prefix_ = absl::StrCat("fixture", count++);
  }

  std::string WhyNot() override { return StockServer::Get().missing(); }
  bool ChecksCounters() override { return false; }
  Runtime& runtime() override { return RealRuntime(); }
  std::shared_ptr<Store> Open() override {
    return MakePrefixStore(OpenOrDie(StockServer::Get().Url(rest_)), prefix_);
  }

 private:
  const std::string rest_;
  std::string prefix_;
};

INSTANTIATE_TEST_SUITE_P(
    Stock, StoreContractTest,
    testing::Values(
        StoreKind{"Found", [] { return std::make_unique<StockFixture>(""); }},
        StoreKind{
            "Told",
            [] { return std::make_unique<StockFixture>("?protocol=1"); }}),
    StoreKindName);

class StockTcpStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string& missing = StockServer::Get().missing();
    if (!missing.empty()) GTEST_SKIP() << missing;
  }
};

TEST_F(StockTcpStoreTest, PyTorchsClientSeesTheSameKeys) {
  StockServer& server = StockServer::Get();
  const auto store = OpenOrDie(server.Url());
  EXPECT_EQ(server.Tell("set theirs 00ff2f"), "ok");
  EXPECT_EQ(store->Get("theirs", Later()).value_or(""),
            std::string("\0\xff/", 3));
  ASSERT_TRUE(store->Set("ours", std::string("\0\x01", 2), Later()).ok());
  EXPECT_EQ(server.Tell("get ours"), "0001");
  EXPECT_EQ(store->Add("both", 40, Later()).value_or(0), 40);
  EXPECT_EQ(server.Tell("add both 2"), "42");
  EXPECT_EQ(server.Tell("get both"), absl::BytesToHexString("42"));
  EXPECT_EQ(store->CompareSet("both", "42", "new", Later()).value_or(""),
            "new");
  EXPECT_EQ(server.Tell("compare_set both old newer"),
            absl::BytesToHexString("new"));
  EXPECT_TRUE(store->Delete("theirs", Later()).value_or(false));
  EXPECT_EQ(server.Tell("delete theirs"), "False");
  EXPECT_EQ(server.Tell("delete ours"), "True");
  EXPECT_TRUE(absl::IsNotFound(store->TryGet("ours", Later()).status()));
}

TEST_F(StockTcpStoreTest, CountersAreTheServers) {
  const auto store = OpenOrDie(StockServer::Get().Url());
  for (const std::string value : {"", "abc", "-", "99999999999999999999"}) {
    ASSERT_TRUE(store->Set("word", value, Later()).ok());
    const absl::Status status = store->Add("word", 1, Later()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("word"));
    EXPECT_EQ(store->TryGet("word", Later()).value_or("?"), value);
  }
}

// A server of protocol 1 survives the question whether it speaks protocol 2,
// and whoever was there before is not disturbed.
TEST_F(StockTcpStoreTest, AWaitSurvivesProbes) {
  StockServer& server = StockServer::Get();
  const auto store = OpenOrDie(server.Url());
  absl::StatusOr<std::string> got;
  const auto waiter = RealRuntime().StartThread("waiter", [&] {
    EXPECT_TRUE(store->Set("waits", "", Later()).ok());
    got = store->Get("late", Later());
  });
  ASSERT_TRUE(store->Get("waits", Later()).ok());
  for (int i = 0; i < 20; ++i) {
    EXPECT_TRUE(absl::IsDeadlineExceeded(
        OpenOrDie(server.Url())->Get("late", Soon()).status()));
  }
  EXPECT_TRUE(OpenOrDie(server.Url())->Set("late", "value", Later()).ok());
  waiter->Join();
  EXPECT_EQ(got.value_or(""), "value");
}

TEST_F(StockTcpStoreTest, ToldTheWrongProtocol) {
  const auto store = OpenOrDie(StockServer::Get().Url("?protocol=2"));
  const absl::Time start = RealRuntime().Now();
  const absl::Status status = store->TryGet("key", Later()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("speaks protocol 1"));
  EXPECT_LT(RealRuntime().Now() - start, absl::Seconds(20));
  EXPECT_TRUE(OpenOrDie(StockServer::Get().Url())->Set("k", "", Later()).ok());
}

// Its keys are gone, but the next call works.
TEST_F(StockTcpStoreTest, TheServerIsKilledAndStartedAgain) {
  ServerProcess first(kPython, {"python3", kServerScript});
  const std::string line = first.ReadLine();
  ASSERT_TRUE(absl::StartsWith(line, "port ")) << line;
  const std::string port = line.substr(5);
  const auto store = OpenOrDie(absl::StrCat("tcp://127.0.0.1:", port));
  EXPECT_EQ(store->Add("n", 1, Later()).value_or(0), 1);
  first.Kill();
  for (const absl::Status& status :
       {store->Set("n", "2", Later()), store->Get("n", Later()).status(),
        store->TryGet("n", Later()).status(),
        store->CompareSet("n", "", "2", Later()).status(),
        store->Add("n", 1, Later()).status(),
        store->Delete("n", Later()).status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(port));
  }
  ServerProcess second(kPython, {"python3", kServerScript, port});
  ASSERT_EQ(second.ReadLine(), line);
  EXPECT_EQ(store->Add("n", 1, Later()).value_or(0), 1);
}

// A server of protocol 2 with the queries that our client knows.
class FakeServer2 {
 public:
  std::string Url(const std::string& rest = "") const {
    return absl::StrCat("tcp://127.0.0.1:", server_.port(), rest);
  }
  // The number of queries that were not as in protocol 2.
  int errors() const { return errors_; }
  int connections() const { return connections_; }
  std::map<std::string, std::string> values() {
    std::lock_guard<std::mutex> lock(mutex_);
    return values_;
  }
  // It hangs instead of closing when it does not understand a client.
  void BeSilent() { is_silent_ = true; }
  // Every connection from now on is closed at its first query of this kind.
  void CloseAt(int query) { close_at_ = query; }

 private:
  static uint64_t Number(FakePeer& peer) {
    uint64_t number = 0;
    const std::string bytes = peer.Receive(8);
    std::memcpy(&number, bytes.data(), bytes.size());
    return number;
  }
  static std::string String(FakePeer& peer) {
    return peer.Receive(Number(peer));
  }
  static std::string Bytes(uint64_t number) {
    return std::string(reinterpret_cast<const char*>(&number), 8);
  }
  static std::string Bytes(const std::string& value) {
    return Bytes(value.size()) + value;
  }
  bool Has(const std::string& key) {
    std::lock_guard<std::mutex> lock(mutex_);
    return values_.count(key) != 0;
  }

  void Serve(FakePeer& peer) {
    ++connections_;
    if (peer.Receive(5) != std::string("\0\xCE\xF7\x85\x3C", 5)) {
      ++errors_;
      while (is_silent_ && !peer.ReceiveSome().empty()) continue;
      return;
    }
    while (true) {
      const std::string query = peer.Receive(1);
      if (query.empty() || query[0] == close_at_) return;
      if (!Answer(peer, query[0])) return;
    }
  }

  bool Answer(FakePeer& peer, int query) {
    if (query == 5) {  // CHECK
      if (Number(peer) != 1) ++errors_;
      const std::string key = String(peer);
      peer.Send(Has(key) ? std::string(1, '\0') : "\x01");
      return true;
    }
    if (query == 7) {  // GETNUMKEYS
      peer.Send(Bytes(0));
      return true;
    }
    const std::string key = String(peer);
    const std::string value = query == 1 || query == 2 ? String(peer) : "";
    const std::string desired = query == 2 ? String(peer) : "";
    const uint64_t delta = query == 4 ? Number(peer) : 0;
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = values_.find(key);
    const bool there = found != values_.end();
    switch (query) {
      case 1:  // SET
        values_[key] = value;
        return true;
      case 2:  // COMPARE_SET
        if (there ? found->second == value : value.empty()) {
          values_[key] = desired;
        }
        peer.Send(Bytes(values_.count(key) != 0 ? values_[key] : value));
        return true;
      case 3:  // GET
        if (there) peer.Send(Bytes(found->second));
        return there;
      case 4: {  // ADD
        const int64_t sum = (there ? std::stoll(found->second) : 0) +
                            static_cast<int64_t>(delta);
        values_[key] = std::to_string(sum);
        peer.Send(Bytes(static_cast<uint64_t>(sum)));
        return true;
      }
      case 8:  // DELETE_KEY
        peer.Send(Bytes(values_.erase(key)));
        return true;
      default:
        ++errors_;
        return false;
    }
  }

  std::mutex mutex_;
  std::map<std::string, std::string> values_;
  std::atomic<int> errors_ = 0;
  std::atomic<int> connections_ = 0;
  std::atomic<int> close_at_ = -1;
  std::atomic<bool> is_silent_ = false;
  FakeServer server_{[this](FakePeer& peer, int) { Serve(peer); }};
};

TEST(TcpStore2Test, SpeaksProtocol2WhetherToldOrNot) {
  for (const std::string rest : {"", "?protocol=2"}) {
    FakeServer2 server;
    const auto store = OpenOrDie(server.Url(rest));
    EXPECT_TRUE(absl::IsNotFound(store->TryGet("key", Later()).status()));
    ASSERT_TRUE(store->Set("key", "value", Later()).ok());
    EXPECT_EQ(store->Get("key", Later()).value_or(""), "value");
    EXPECT_EQ(store->TryGet("key", Later()).value_or(""), "value");
    EXPECT_EQ(server.values().count("/key"), 1);
    EXPECT_EQ(store->CompareSet("key", "value", "x", Later()).value_or(""),
              "x");
    EXPECT_EQ(store->CompareSet("key", "value", "y", Later()).value_or(""),
              "x");
    EXPECT_EQ(store->Add("n", -7, Later()).value_or(0), -7);
    EXPECT_EQ(store->Add("n", 9, Later()).value_or(0), 2);
    EXPECT_TRUE(store->Delete("key", Later()).value_or(false));
    EXPECT_FALSE(store->Delete("key", Later()).value_or(true));
    EXPECT_TRUE(absl::IsDeadlineExceeded(store->Get("key", Soon()).status()));
    ASSERT_TRUE(store->Set("key", "", Later()).ok());
    EXPECT_EQ(store->Get("key", Later()).value_or("?"), "");
    EXPECT_EQ(server.errors(), 0);
  }
}

TEST(TcpStore2Test, AClientThatWasToldTheWrongProtocolLearnsIt) {
  for (const bool is_silent : {false, true}) {
    FakeServer2 server;
    if (is_silent) server.BeSilent();
    const auto store = OpenOrDie(server.Url("?protocol=1"));
    const absl::Status status = store->Get("key", Later()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("speaks protocol 2, and its URL says ?protocol=1"));
  }
}

TEST(TcpStore2Test, WhatItsServerDoesNotTake) {
  FakeServer2 server;
  const auto store = OpenOrDie(server.Url());
  const std::string key(8191, 'k');
  const std::string value(8 << 20, 'v');
  EXPECT_TRUE(store->Set(key, value, Later()).ok());
  EXPECT_TRUE(store->Get(key, Later()).value_or("") == value);
  for (const absl::Status& status :
       {store->Set(key + "k", "", Later()),
        store->Set("k", value + "v", Later()),
        store->TryGet(key + "k", Later()).status(),
        store->CompareSet("k", value + "v", "", Later()).status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  }
}

// Only calls that can be repeated are repeated.
TEST(TcpStore2Test, AConnectionThatBreaksDuringACall) {
  FakeServer2 server;
  const auto store = OpenOrDie(server.Url("?protocol=2"));
  // It has answered once, and no connection is kept.
  EXPECT_TRUE(absl::IsNotFound(store->TryGet("key", Later()).status()));
  server.CloseAt(5);
  EXPECT_TRUE(absl::IsUnavailable(store->Set("k", "", Later())));
  const auto connections = [&](int query, auto call) {
    server.CloseAt(query);
    const int before = server.connections();
    const absl::Status status = call();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    return server.connections() - before;
  };
  EXPECT_EQ(connections(5, [&] { return store->Set("k", "", Later()); }), 3);
  EXPECT_EQ(connections(5, [&] { return store->Get("k", Later()).status(); }),
            3);
  EXPECT_EQ(
      connections(5, [&] { return store->TryGet("k", Later()).status(); }), 3);
  EXPECT_EQ(
      connections(
          2, [&] { return store->CompareSet("k", "", "", Later()).status(); }),
      1);
  EXPECT_EQ(
      connections(8, [&] { return store->Delete("k", Later()).status(); }), 1);
  // The client then reads the value, by other queries.
  server.CloseAt(-1);
  ASSERT_TRUE(store->Set("count", "5", Later()).ok());
  server.CloseAt(4);
  EXPECT_TRUE(absl::IsUnavailable(store->Add("count", 1, Later()).status()));
  EXPECT_TRUE(absl::IsUnavailable(store->Add("none", 1, Later()).status()));
  server.CloseAt(-1);
  EXPECT_EQ(store->Add("none", 1, Later()).value_or(0), 1);
}

// The connections in the pool die with the first server.
TEST(TcpStoreTest, AnotherServerOnTheSamePort) {
  std::atomic<bool> broken = false;
  FakeServer server([&](FakePeer& peer, int) {
    std::string got = peer.Receive(1);
    while (!got.empty() && !broken) {
      // CHECK, one key of three bytes.
      peer.Receive(8 + 8 + 3);
      peer.Send("\x01");
      got = peer.Receive(1);
    }
  });
  const auto store =
      OpenOrDie(absl::StrCat("tcp://127.0.0.1:", server.port(), "?protocol=1"));
  EXPECT_TRUE(absl::IsNotFound(store->TryGet("12", Later()).status()));
  broken = true;
  EXPECT_TRUE(absl::IsUnavailable(store->TryGet("12", Later()).status()));
  broken = false;
  EXPECT_TRUE(absl::IsNotFound(store->TryGet("12", Later()).status()));
}

TEST(TcpStoreTest, OddReplies) {
  const std::vector<std::string> replies = {
      "",
      "HTTP/1.1 400 Bad Request\r\n",
      std::string(1, '\0') + std::string(8, '\xff'),
      std::string(9, '\0') + "x",
      "\x02",
      std::string(1, '\0') + std::string(7, '\0') + "\x7f",
  };
  for (const std::string& reply : replies) {
    FakeServer server([&](FakePeer& peer, int) {
      while (!peer.ReceiveSome().empty()) {
        peer.Send(reply);
        if (reply.empty()) return;
      }
    });
    for (const char* protocol : {"", "?protocol=1", "?protocol=2"}) {
      const auto store =
          OpenOrDie(absl::StrCat("tcp://127.0.0.1:", server.port(), protocol));
      // The call must end without a crash; some of these bytes are an answer.
      store->Set("key", "value", Soon()).IgnoreError();
      store->Get("key", Soon()).IgnoreError();
      store->TryGet("key", Soon()).IgnoreError();
      store->Add("key", 1, Soon()).IgnoreError();
      store->CompareSet("key", "", "a", Soon()).IgnoreError();
      store->Delete("key", Soon()).IgnoreError();
    }
  }
}

TEST(TcpStoreTest, ALengthThatIsTooLong) {
  FakeServer server([](FakePeer& peer, int) {
    peer.ReceiveSome();
    peer.Send(std::string("\x01\0\0\x04\0\0\0\0", 8));  // 64 MiB and a byte
    peer.ReceiveSome();
  });
  const auto store =
      OpenOrDie(absl::StrCat("tcp://127.0.0.1:", server.port(), "?protocol=1"));
  const absl::Status status =
      store->CompareSet("key", "", "a", Later()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
}

TEST(TcpStoreTest, AServerThatHangsDoesNotOutlastTheDeadline) {
  FakeServer server([](FakePeer& peer, int) {
    while (!peer.ReceiveSome().empty()) continue;
  });
  for (const char* protocol : {"", "?protocol=1", "?protocol=2"}) {
    const auto store =
        OpenOrDie(absl::StrCat("tcp://127.0.0.1:", server.port(), protocol));
    const absl::Time deadline = Soon();
    const absl::Status status = store->Get("key", deadline).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
    EXPECT_GE(RealRuntime().Now(), deadline);
  }
}

TEST(TcpStoreTest, NobodyListens) {
  std::string port;
  {
    port = FakeServer([](FakePeer&, int) {}).port();
  }
  const auto store = OpenOrDie(absl::StrCat("tcp://127.0.0.1:", port));
  const absl::Status status = store->Set("key", "value", Later());
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(port));
}

}  // namespace
}  // namespace reprise

// The contract over a real Redis, what that kind does beyond it, and servers
// that are killed, stopped, or say odd things.

#include "agent/store/redis_store.h"

#include <signal.h>

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
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
using testing::Not;

absl::Time Later() { return RealRuntime().Now() + absl::Minutes(5); }
absl::Time Soon() { return RealRuntime().Now() + absl::Milliseconds(50); }

std::shared_ptr<Store> OpenOrDie(const std::string& url) {
  auto store = OpenRedisStore(RealRuntime(), url);
  EXPECT_TRUE(store.ok()) << store.status();
  return store.ok() ? *store : nullptr;
}

class RedisFixture : public StoreFixture {
 public:
  explicit RedisFixture(std::string rest) : rest_(std::move(rest)) {}

  Runtime& runtime() override { return RealRuntime(); }
  std::shared_ptr<Store> Open() override {
    return OpenOrDie(server_.Url("", rest_));
  }

 private:
  const std::string rest_;
  RedisServer server_;
};

INSTANTIATE_TEST_SUITE_P(
    Redis, StoreContractTest,
    testing::Values(
        StoreKind{"Redis", [] { return std::make_unique<RedisFixture>(""); }},
        StoreKind{
            "RedisWithTtl",
            [] { return std::make_unique<RedisFixture>("/1?ttl=3600"); }}),
    StoreKindName);

TEST(RedisStoreTest, SurvivesARestartOfTheServer) {
  RedisServer server;
  const auto store = OpenOrDie(server.Url());
  ASSERT_TRUE(store->Set("key", "value", Later()).ok());
  for (int i = 0; i < 3; ++i) {
    server.Kill();
    for (const absl::Status& status :
         {store->Set("key", "2", Later()), store->Get("key", Later()).status(),
          store->TryGet("key", Later()).status(),
          store->CompareSet("key", "", "2", Later()).status(),
          store->Add("n", 1, Later()).status(),
          store->Delete("key", Later()).status()}) {
      EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr(server.port()));
    }
    server.Restart();
    EXPECT_EQ(store->Add("n", 1, Later()).value_or(0), i + 1);
    EXPECT_EQ(store->TryGet("key", Later()).value_or(""), "value");
  }
}

// Even a call that cannot be repeated does not fail because of a connection
// that died before.
TEST(RedisStoreTest, ARestartBetweenTwoCallsIsNotSeen) {
  RedisServer server;
  const auto store = OpenOrDie(server.Url());
  for (int i = 1; i <= 5; ++i) {
    const auto sum = store->Add("n", 1, Later());
    ASSERT_TRUE(sum.ok()) << sum.status();
    EXPECT_EQ(*sum, i);
    server.Kill();
    server.Restart();
  }
}

TEST(RedisStoreTest, AWaitEndsUnavailableWhenTheServerIsKilled) {
  RedisServer server;
  const auto store = OpenOrDie(server.Url());
  absl::Status status;
  std::atomic<bool> asked = false;
  const auto waiter = RealRuntime().StartThread("waiter", [&] {
    EXPECT_TRUE(store->Set("asked", "", Later()).ok());
    asked = true;
    status = store->Get("missing", Later()).status();
  });
  while (!asked) RealRuntime().SleepUntil(Soon());
  server.Kill();
  waiter->Join();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
}

// What was added before the kill is there after it, and what failed was done
// once or not at all.
TEST(RedisStoreTest, KilledUnderLoad) {
  constexpr int kThreads = 4;
  constexpr int kAdds = 300;
  RedisServer server;
  std::atomic<int> done = 0;
  std::atomic<int> failed = 0;
  std::vector<std::unique_ptr<Thread>> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.push_back(RealRuntime().StartThread("adder", [&] {
      const auto store = OpenOrDie(server.Url());
      for (int j = 0; j < kAdds;) {
        const auto sum = store->Add("n", 1, Later());
        if (sum.ok()) {
          ++done;
          ++j;
          continue;
        }
        EXPECT_EQ(sum.status().code(), absl::StatusCode::kUnavailable)
            << sum.status();
        ++failed;
        RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(1));
      }
    }));
  }
  for (const int at : {100, 400, 700}) {
    while (done < at) {
      RealRuntime().SleepUntil(RealRuntime().Now() + absl::Microseconds(100));
    }
    server.Kill();
    server.Restart();
  }
  for (const auto& thread : threads) thread->Join();
  const auto sum = OpenOrDie(server.Url())->Add("n", 0, Later());
  ASSERT_TRUE(sum.ok()) << sum.status();
  EXPECT_GE(*sum, kThreads * kAdds);
  EXPECT_LE(*sum, kThreads * kAdds + failed);
  EXPECT_GT(failed, 0);
}

TEST(RedisStoreTest, AServerThatHangsDoesNotOutlastTheDeadline) {
  RedisServer server;
  const auto store = OpenOrDie(server.Url());
  ASSERT_TRUE(store->Set("key", "value", Later()).ok());
  server.Signal(SIGSTOP);
  for (int i = 0; i < 2; ++i) {
    const absl::Time deadline = Soon();
    const absl::Status status = store->TryGet("key", deadline).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("TryGet"));
    EXPECT_GE(RealRuntime().Now(), deadline);
  }
  server.Signal(SIGCONT);
  EXPECT_EQ(store->TryGet("key", Later()).value_or(""), "value");
}

TEST(RedisStoreTest, Passwords) {
  const std::string secret = "s3cret @/:%";
  const std::string encoded = "s3cret%20%40%2F%3A%25";
  RedisServer server({"--requirepass", secret});
  for (const std::string& userinfo : {":" + encoded, "default:" + encoded}) {
    const auto store = OpenOrDie(server.Url(userinfo + "@"));
    EXPECT_TRUE(store->Set("key", "value", Later()).ok());
  }
  const absl::Status wrong =
      OpenOrDie(server.Url(":hunter2@"))->TryGet("key", Later()).status();
  EXPECT_EQ(wrong.code(), absl::StatusCode::kUnauthenticated) << wrong;
  EXPECT_THAT(std::string(wrong.message()), HasSubstr(server.port()));
  EXPECT_THAT(std::string(wrong.message()), Not(HasSubstr("hunter2")));
  const absl::Status none =
      OpenOrDie(server.Url())->TryGet("key", Later()).status();
  EXPECT_EQ(none.code(), absl::StatusCode::kUnauthenticated) << none;
}

TEST(RedisStoreTest, DatabasesAreApart) {
  RedisServer server;
  const auto zero = OpenOrDie(server.Url());
  const auto one = OpenOrDie(server.Url("", "/1"));
  ASSERT_TRUE(zero->Set("key", "zero", Later()).ok());
  EXPECT_TRUE(absl::IsNotFound(one->TryGet("key", Later()).status()));
  const absl::Status status =
      OpenOrDie(server.Url("", "/1000"))->TryGet("key", Later()).status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("database 1000"));
}

TEST(RedisStoreTest, KeysExpireUnlessTheyAreWritten) {
  RedisServer server;
  const auto store = OpenOrDie(server.Url("", "?ttl=1"));
  const auto eternal = OpenOrDie(server.Url());
  ASSERT_TRUE(eternal->Set("eternal", "value", Later()).ok());
  const absl::Time begin = RealRuntime().Now();
  // Each way of writing, on a key and on none.
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(store->Set("set", "value", Later()).ok());
    ASSERT_TRUE(
        store->CompareSet("swapped", i == 0 ? "" : "1", "1", Later()).ok());
    ASSERT_TRUE(store->Add("added", 1, Later()).ok());
  }
  for (const char* key : {"set", "swapped", "added"}) {
    while (store->TryGet(key, Later()).ok()) {
      ASSERT_LT(RealRuntime().Now(), begin + absl::Minutes(2)) << key;
      RealRuntime().SleepUntil(Soon());
    }
    EXPECT_GE(RealRuntime().Now(), begin + absl::Seconds(1)) << key;
  }
  EXPECT_TRUE(eternal->TryGet("eternal", Later()).ok());
}

TEST(RedisStoreTest, AKeyOfAnotherTypeIsAnError) {
  RedisServer server;
  // Another program makes the key a list.
  const auto store = OpenOrDie(server.Url());
  ServerProcess client("/usr/bin/redis-cli", {"redis-cli", "-p", server.port(),
                                              "rpush", "list", "1"});
  EXPECT_EQ(client.ReadLine(), "1");
  for (const absl::Status& status :
       {store->Get("list", Later()).status(),
        store->CompareSet("list", "", "2", Later()).status(),
        store->Add("list", 1, Later()).status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  }
  EXPECT_TRUE(store->Delete("list", Later()).value_or(false));
}

TEST(RedisStoreTest, NobodyListens) {
  std::string port;
  {
    port = FakeServer([](FakePeer&, int) {}).port();
  }
  const auto store = OpenOrDie(absl::StrCat("redis://127.0.0.1:", port));
  const absl::Status status = store->Set("key", "value", Later());
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(port));
}

TEST(RedisStoreTest, NoSuchHost) {
  const auto store = OpenOrDie("redis://host.invalid");
  const absl::Status status = store->Set("key", "value", Later());
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("host.invalid"));
}

// Calls a server that answers every command with `reply`.
absl::Status AnswerTo(const std::string& reply) {
  FakeServer server([&](FakePeer& peer, int) {
    while (!peer.ReceiveSome().empty()) {
      peer.Send(reply);
      if (reply.empty()) return;
    }
  });
  const auto store =
      OpenOrDie(absl::StrCat("redis://127.0.0.1:", server.port()));
  const absl::Status set = store->Set("key", "value", Later());
  absl::Status add = store->Add("key", 1, Later()).status();
  EXPECT_FALSE(add.ok()) << add;
  EXPECT_FALSE(store->CompareSet("key", "a", "b", Later()).ok());
  EXPECT_FALSE(store->Delete("key", Later()).ok());
  EXPECT_FALSE(store->TryGet("key", Later()).ok());
  return add;
}

TEST(RedisStoreTest, OddReplies) {
  using Code = absl::StatusCode;
  const std::vector<std::pair<std::string, Code>> replies = {
      {"", Code::kUnavailable},
      {"HTTP/1.1 400 Bad Request\r\n", Code::kUnavailable},
      {"*1000000000\r\n", Code::kUnavailable},
      {"*1\r\n:1\r\n", Code::kUnavailable},
      {"$-2\r\n", Code::kUnavailable},
      {"$99999999999999999999\r\n", Code::kUnavailable},
      {"+OK\r\n+OK\r\n", Code::kInternal},
      {"+OK\r\n", Code::kInternal},
      {"$-1\r\n", Code::kInternal},
      {"-\r\n", Code::kInternal},
      {"-ERR unknown command\r\n", Code::kInternal},
      {"-LOADING Redis is loading\r\n", Code::kUnavailable},
      {"-ERR max number of clients reached\r\n", Code::kUnavailable},
      {"-OOM command not allowed\r\n", Code::kResourceExhausted},
      {"-NOPERM no\r\n", Code::kPermissionDenied},
  };
  for (const auto& [reply, code] : replies) {
    const absl::Status status = AnswerTo(reply);
    EXPECT_EQ(status.code(), code) << reply << ": " << status;
  }
}

TEST(RedisStoreTest, TheWordsOfARefusedPasswordAreNotShown) {
  FakeServer server([](FakePeer& peer, int) {
    peer.ReceiveSome();
    peer.Send("-ERR unknown command 'AUTH' with 'hunter2'\r\n");
    peer.ReceiveSome();
  });
  const absl::Status status =
      OpenOrDie(absl::StrCat("redis://:hunter2@127.0.0.1:", server.port()))
          ->TryGet("key", Later())
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated) << status;
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr("hunter2")));
}

// Only calls that can be repeated are repeated.
TEST(RedisStoreTest, AConnectionThatBreaksDuringACall) {
  std::atomic<int> connections = 0;
  FakeServer server([&](FakePeer& peer, int) {
    ++connections;
    peer.ReceiveSome();
  });
  const auto store =
      OpenOrDie(absl::StrCat("redis://127.0.0.1:", server.port()));
  const auto used = [&](const absl::Status& status) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    return connections.exchange(0);
  };
  EXPECT_GT(used(store->Set("key", "value", Later())), 1);
  EXPECT_GT(used(store->Get("key", Later()).status()), 1);
  EXPECT_GT(used(store->TryGet("key", Later()).status()), 1);
  EXPECT_EQ(used(store->Add("key", 1, Later()).status()), 1);
  EXPECT_EQ(used(store->Delete("key", Later()).status()), 1);
  EXPECT_EQ(used(store->CompareSet("key", "", "a", Later()).status()), 1);
}

TEST(RedisStoreTest, ASlowTrickleDoesNotOutlastTheDeadline) {
  FakeServer server([](FakePeer& peer, int) {
    peer.ReceiveSome();
    peer.Send("$1000\r\n");
    for (int i = 0; i < 200; ++i) {
      peer.Send("x");
      RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(2));
    }
  });
  const auto store =
      OpenOrDie(absl::StrCat("redis://127.0.0.1:", server.port()));
  const absl::Status status = store->TryGet("key", Soon()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
}

TEST(RedisStoreTest, BadUrls) {
  for (const std::string rest : {"",
                                 ":",
                                 "host:",
                                 "host:0",
                                 "host:65536",
                                 "host:1x",
                                 "host:-1",
                                 "h st",
                                 "host/x",
                                 "host/-1",
                                 "host?ttl=0",
                                 "host?ttl=x",
                                 "host?ttl=-1",
                                 "host?ttl=99999999999999",
                                 "host?ttl=1&ttl=2",
                                 "host?x=1",
                                 "host?ttl",
                                 "[::1",
                                 "[::1]x",
                                 "[::1]:",
                                 ":%zz@host",
                                 ":%4@host",
                                 "user@host"}) {
    const absl::Status status =
        OpenRedisStore(RealRuntime(), "redis://" + rest).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << rest;
  }
  for (const std::string rest :
       {"host", "host:1", "[::1]", "[::1]:1/2", ":a@host", "u:a@host/0",
        "host/?ttl=1", "host/15?ttl=86400", "127.0.0.1:65535"}) {
    EXPECT_TRUE(OpenRedisStore(RealRuntime(), "redis://" + rest).ok()) << rest;
  }
}

}  // namespace
}  // namespace reprise

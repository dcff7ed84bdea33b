// The contract over a cluster of etcd, what it survives, and servers that hang
// or say odd things.

#include "agent/store/etcd_store.h"

#include <signal.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/runtime/runtime.h"
#include "agent/store/etcd_client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/store/etcd_cluster.h"
#include "tests/unit/store/fake_server.h"
#include "tests/unit/store/store_contract.h"

namespace reprise {
namespace {

using testing::AllOf;
using testing::HasSubstr;

absl::Time Later() { return RealRuntime().Now() + absl::Minutes(5); }
absl::Time Soon() { return RealRuntime().Now() + absl::Milliseconds(50); }

std::shared_ptr<Store> OpenOrDie(const std::string& url) {
  auto store = OpenEtcdStore(RealRuntime(), url);
  EXPECT_TRUE(store.ok()) << store.status();
  return store.ok() ? *store : nullptr;
}

// One cluster serves all tests that leave it whole.
EtcdCluster& SharedCluster() {
  static auto* const cluster = new EtcdCluster(3);
  return *cluster;
}

class EtcdFixture : public StoreFixture {
 public:
  EtcdFixture() {
    static int count = 0;
    prefix_ = absl::StrCat("/fixture", count++);
  }

  std::string WhyNot() override { return EtcdCluster::Missing(); }
  Runtime& runtime() override { return RealRuntime(); }
  std::shared_ptr<Store> Open() override {
    return OpenOrDie(SharedCluster().Url(prefix_));
  }

 private:
  std::string prefix_;
};

INSTANTIATE_TEST_SUITE_P(Etcd, StoreContractTest,
                         testing::Values(StoreKind{
                             "Three",
                             [] { return std::make_unique<EtcdFixture>(); }}),
                         StoreKindName);

class EtcdClusterTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string missing = EtcdCluster::Missing();
    if (!missing.empty()) GTEST_SKIP() << missing;
  }

  // Adds 1 until that works, as the agent tries again. Returns the sum and
  // counts the calls whose outcome is unknown.
  static int64_t AddSurely(Store& store, int& unknown) {
    while (true) {
      const auto sum = store.Add("n", 1, Later());
      if (sum.ok()) return *sum;
      EXPECT_TRUE(absl::IsUnavailable(sum.status())) << sum.status();
      ++unknown;
      RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(5));
    }
  }

  static int AwaitLeader(const EtcdCluster& cluster) {
    int leader = cluster.Leader();
    while (leader < 0) {
      RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(20));
      leader = cluster.Leader();
    }
    return leader;
  }
};

TEST_F(EtcdClusterTest, PrefixesKeepGroupsApart) {
  const EtcdCluster& cluster = SharedCluster();
  const auto a = OpenOrDie(cluster.Url("/a"));
  const auto b = OpenOrDie(cluster.Url("/a/b"));
  ASSERT_TRUE(a->Set("b/key", "value", Later()).ok());
  EXPECT_EQ(b->TryGet("key", Later()).value_or(""), "value");
  EXPECT_TRUE(absl::IsNotFound(a->TryGet("key", Later()).status()));
  EXPECT_TRUE(absl::IsNotFound(
      OpenOrDie(cluster.Url())->TryGet("key", Later()).status()));
}

// Members of a cluster serve the same keys.
TEST_F(EtcdClusterTest, EveryMemberSeesWhatAnyHasWritten) {
  const EtcdCluster& cluster = SharedCluster();
  for (int i = 0; i < cluster.size(); ++i) {
    const auto writer = OpenOrDie(cluster.UrlOf(i, "/members"));
    const std::string key = absl::StrCat("key", i);
    ASSERT_TRUE(writer->Set(key, "value", Later()).ok());
    for (int j = 0; j < cluster.size(); ++j) {
      EXPECT_EQ(OpenOrDie(cluster.UrlOf(j, "/members"))
                    ->TryGet(key, Later())
                    .value_or(""),
                "value");
    }
  }
}

TEST_F(EtcdClusterTest, AValueThatEtcdDoesNotTake) {
  const auto store = OpenOrDie(SharedCluster().Url("/long"));
  const absl::Status status =
      store->Set("key", std::string(20 << 20, 'v'), Later());
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_TRUE(store->Set("key", "short", Later()).ok());
}

// A follower dies, then the leader of those that are left after it has come
// back; each time the store goes on, and nothing that was answered is lost.
TEST_F(EtcdClusterTest, OneOfThreeMayFail) {
  EtcdCluster cluster(3);
  const auto store = OpenOrDie(cluster.Url());
  int unknown = 0;
  int64_t answered = 0;
  ASSERT_TRUE(store->Set("kept", "value", Later()).ok());
  for (const bool kill_leader : {false, true}) {
    for (int i = 0; i < 10; ++i) {
      AddSurely(*store, unknown);
      ++answered;
    }
    const int leader = AwaitLeader(cluster);
    const int victim = kill_leader ? leader : (leader + 1) % 3;
    // A wait goes on meanwhile.
    absl::StatusOr<std::string> waited = absl::UnavailableError("");
    const auto waiter = RealRuntime().StartThread("waiter", [&] {
      const auto own = OpenOrDie(cluster.Url());
      while (absl::IsUnavailable(waited.status())) {
        waited = own->Get(absl::StrCat("late", kill_leader), Later());
      }
    });
    cluster.Kill(victim);
    for (int i = 0; i < 10; ++i) {
      AddSurely(*store, unknown);
      ++answered;
    }
    // A store that begins now, and with the member that is dead, too.
    const auto other =
        OpenOrDie(absl::StrCat("etcd://", cluster.Address(victim), ",",
                               cluster.Address((victim + 1) % 3), ",",
                               cluster.Address((victim + 2) % 3)));
    EXPECT_EQ(other->Get("kept", Later()).value_or(""), "value");
    absl::Status status =
        other->Set(absl::StrCat("late", kill_leader), "v", Later());
    EXPECT_TRUE(status.ok()) << status;
    waiter->Join();
    EXPECT_EQ(waited.value_or(""), "v");
    cluster.Restart(victim);
    // It has to catch up before another may fail.
    const auto back = OpenOrDie(cluster.UrlOf(victim));
    while (!back->TryGet("kept", Later()).ok()) {
      RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(20));
    }
  }
  const int64_t sum = store->Add("n", 0, Later()).value_or(0);
  EXPECT_GE(sum, answered);
  EXPECT_LE(sum, answered + unknown);
}

TEST_F(EtcdClusterTest, TwoOfThreeMayNot) {
  EtcdCluster cluster(3);
  const auto store = OpenOrDie(cluster.Url());
  ASSERT_TRUE(store->Set("key", "value", Later()).ok());
  cluster.Kill(0);
  cluster.Kill(1);
  const absl::Time deadline = RealRuntime().Now() + absl::Milliseconds(500);
  const absl::Status status = store->TryGet("key", deadline).status();
  EXPECT_TRUE(absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status))
      << status;
  cluster.Restart(0);
  absl::StatusOr<std::string> got = store->TryGet("key", Later());
  while (absl::IsUnavailable(got.status())) got = store->TryGet("key", Later());
  EXPECT_EQ(got.value_or(""), "value");
  cluster.Kill(0);
  cluster.Kill(2);
  const absl::Status refused = store->Add("n", 1, Later()).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable) << refused;
}

// A member that hangs costs calls a part of their time, the first ones only.
TEST_F(EtcdClusterTest, AMemberHangs) {
  EtcdCluster cluster(3);
  const int hung = (AwaitLeader(cluster) + 1) % 3;
  const std::string hung_first = absl::StrCat(
      "etcd://", cluster.Address(hung), ",", cluster.Address((hung + 1) % 3),
      ",", cluster.Address((hung + 2) % 3));
  const auto store = OpenOrDie(hung_first);
  cluster.Signal(hung, SIGSTOP);
  // A call that cannot be repeated ends with its deadline; the next one begins
  // with another member.
  const absl::Status first = store->Delete("key", Soon()).status();
  EXPECT_EQ(first.code(), absl::StatusCode::kDeadlineExceeded) << first;
  EXPECT_TRUE(store->Delete("key", Later()).ok());
  // One that can be repeated goes on to another by itself, with half of its
  // time; a busy machine may need more of it.
  absl::Status set;
  do {
    set = OpenOrDie(hung_first)
              ->Set("key", "value", RealRuntime().Now() + absl::Seconds(3));
    EXPECT_TRUE(set.ok() || absl::IsDeadlineExceeded(set)) << set;
  } while (!set.ok());
  int unknown = 0;
  for (int i = 1; i <= 5; ++i) {
    const absl::Time start = RealRuntime().Now();
    EXPECT_GE(AddSurely(*store, unknown), i);
    // It would hang for 10 s.
    EXPECT_LT(RealRuntime().Now() - start, absl::Seconds(9));
  }
  cluster.Signal(hung, SIGCONT);
}

std::string Http(const std::string& status, const std::string& body) {
  return absl::StrCat("HTTP/1.1 ", status, "\r\nContent-Length: ", body.size(),
                      "\r\n\r\n", body);
}

TEST(EtcdStoreTest, OddAnswers) {
  const std::vector<std::string> answers = {
      "",
      "\r\n\r\n",
      "SSH-2.0-OpenSSH\r\n",
      Http("200 OK", ""),
      Http("200 OK", "[]"),
      Http("200 OK", "\"x\""),
      Http("200 OK", std::string(100'000, '[')),
      Http("200 OK", R"({"kvs": 1})"),
      Http("200 OK", R"({"kvs": []})"),
      Http("200 OK", R"({"kvs": [1]})"),
      Http("200 OK", R"({"kvs": [{}]})"),
      Http("200 OK", R"({"kvs": [{"mod_revision": 7}]})"),
      Http("200 OK", R"({"kvs": [{"mod_revision": "7", "value": 1}]})"),
      Http("200 OK", R"({"kvs": [{"mod_revision": "7", "value": "*"}]})"),
      Http("404 Not Found", "404 page not found"),
      Http("503 Service Unavailable", R"({"error": 1, "code": "x"})"),
      Http("302 Found", ""),
      "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
  };
  for (size_t i = 0; i < answers.size(); ++i) {
    FakeServer server([&](FakePeer& peer, int) {
      if (!peer.ReceiveSome().empty()) peer.Send(answers[i]);
    });
    const auto store =
        OpenOrDie(absl::StrCat("etcd://127.0.0.1:", server.port()));
    const absl::Status status = store->TryGet("key", Later()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << i << status;
    for (const absl::Status& other :
         {store->CompareSet("key", "a", "b", Later()).status(),
          store->Add("key", 1, Later()).status()}) {
      EXPECT_EQ(other.code(), absl::StatusCode::kUnavailable) << i << other;
    }
  }
}

TEST(EtcdStoreTest, OddAnswersToATransaction) {
  for (const std::string body :
       {R"({})", R"({"succeeded": 1})", R"({"responses": 1})",
        R"({"responses": []})", R"({"responses": [1]})",
        R"({"responses": [{"response_range": 1}]})",
        R"({"responses": [{"response_range": {"kvs": 1}}]})"}) {
    FakeServer server([&](FakePeer& peer, int) {
      const std::string got = peer.ReceiveSome();
      peer.Send(Http("200 OK", absl::StrContains(got, "/txn") ? body : "{}"));
    });
    const auto store =
        OpenOrDie(absl::StrCat("etcd://127.0.0.1:", server.port()));
    const absl::Status status = store->Add("key", 1, Later()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << body << status;
  }
}

// A call that may have had its effect is not sent to anybody else.
TEST(EtcdStoreTest, OnlyWhatCanBeRepeatedIs) {
  std::atomic<int> asked = 0;
  std::atomic<bool> reads = true;
  // Each dies of a request, on a connection that may have served reads before.
  const auto serve = [&](FakePeer& peer, int) {
    while (true) {
      const std::string got = peer.ReceiveSome();
      if (got.empty()) return;
      if (reads && absl::StrContains(got, "/range")) {
        peer.Send(Http("200 OK", "{}"));
        continue;
      }
      ++asked;
      return;
    }
  };
  FakeServer a(serve);
  FakeServer b(serve);
  FakeServer c(serve);
  const auto store =
      OpenOrDie(absl::StrCat("etcd://127.0.0.1:", a.port(),
                             ",127.0.0.1:", b.port(), ",127.0.0.1:", c.port()));
  const auto count = [&](auto call) {
    asked = 0;
    const absl::Status status = call();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    return asked.load();
  };
  EXPECT_EQ(count([&] { return store->Delete("x", Later()).status(); }), 1);
  EXPECT_EQ(count([&] { return store->Add("key", 1, Later()).status(); }), 1);
  EXPECT_EQ(count([&] {
              return store->CompareSet("key", "", "v", Later()).status();
            }),
            1);
  reads = false;
  EXPECT_GE(count([&] { return store->Set("x", "v", Later()); }), 3);
  EXPECT_GE(count([&] { return store->TryGet("x", Later()).status(); }), 3);
}

TEST(EtcdStoreTest, AServerThatHangsDoesNotOutlastTheDeadline) {
  FakeServer server([](FakePeer& peer, int) {
    while (!peer.ReceiveSome().empty()) continue;
  });
  const auto store =
      OpenOrDie(absl::StrCat("etcd://127.0.0.1:", server.port()));
  for (int i = 0; i < 3; ++i) {
    const absl::Time deadline = Soon();
    for (const absl::Status& status :
         {store->Get("key", deadline).status(), store->Set("k", "", deadline),
          store->Add("k", 1, deadline).status(),
          store->Delete("k", deadline).status()}) {
      EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
    }
    EXPECT_GE(RealRuntime().Now(), deadline);
  }
}

TEST(EtcdStoreTest, NobodyListens) {
  std::string port;
  {
    port = FakeServer([](FakePeer&, int) {}).port();
  }
  const auto store = OpenOrDie(absl::StrCat("etcd://127.0.0.1:", port));
  for (const absl::Status& status : {store->Set("key", "value", Later()),
                                     store->Add("key", 1, Later()).status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(port));
  }
}

TEST(EtcdStoreTest, Refusals) {
  const auto code = [](int grpc) {
    return EtcdError(400, absl::StrCat(R"({"error": "etcdserver: x", "code": )",
                                       grpc, "}"))
        .code();
  };
  EXPECT_EQ(code(3), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(7), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(code(8), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(code(14), absl::StatusCode::kUnavailable);
  EXPECT_EQ(code(2), absl::StatusCode::kUnavailable);
  EXPECT_EQ(code(16), absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(std::string(EtcdError(503, "busy").message()),
              AllOf(HasSubstr("503"), HasSubstr("busy")));
}

}  // namespace
}  // namespace reprise

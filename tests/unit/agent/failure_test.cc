// What breaks: listeners, pipes, peers; and shutting down in the middle of it.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "agent/agent.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"
#include "tests/unit/agent/hooked_store.h"
#include "tests/unit/agent/recorder.h"

namespace reprise::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string Text(const absl::Status& status) {
  return std::string(status.message());
}

std::string AddressOf(Cluster& cluster, const std::string& worker) {
  return *cluster.store()->TryGet("addrs/" + worker, Soon());
}

TEST(FailureTest, AListenerThatDiesIsReplaced) {
  Recorder recorder;
  Cluster cluster;
  cluster.set_observer(&recorder);
  cluster.Start(3, Echo());
  ASSERT_TRUE(cluster[2].Send("w0", Request("before")).status().ok());
  for (int i = 1; i <= 3; ++i) {
    const std::string address = AddressOf(cluster, "w0");
    BreakListener(address);
    ASSERT_TRUE(recorder.WaitFor("listener failed", i));
    ASSERT_TRUE(recorder.WaitFor("listening", 3 + i));
    EXPECT_NE(AddressOf(cluster, "w0"), address);
  }
  EXPECT_TRUE(cluster[1].Send("w0", Request("")).status().ok());
  // A pipe of before lives on.
  EXPECT_TRUE(cluster[2].Send("w0", Request("again")).status().ok());
  EXPECT_EQ(cluster[2].GetMetrics()["agent.reconnects"], 0);
}

TEST(FailureTest, ANewListenerIsPublishedOnceTheStoreIsBack) {
  Recorder recorder;
  std::atomic<int> failures = 0;
  std::atomic<bool> down = false;
  Cluster whole;
  Cluster cluster(MakeHookedStore(
      whole.store(),
      [&](const std::string&, const std::string&) {
        if (!down) return absl::OkStatus();
        if (++failures == 3) down = false;
        return absl::UnavailableError("down");
      },
      nullptr));
  cluster.set_observer(&recorder);
  cluster.Start(2, Echo());
  const std::string address = AddressOf(whole, "w0");
  down = true;
  BreakListener(address);
  ASSERT_TRUE(recorder.WaitFor("listening", 3));
  EXPECT_EQ(failures, 3);
  EXPECT_NE(AddressOf(whole, "w0"), address);
  EXPECT_TRUE(cluster[1].Send("w0", Request("")).status().ok());
}

// When a listener fails, there are no file descriptors.
class Shortage : public Recorder {
 public:
  Shortage() { getrlimit(RLIMIT_NOFILE, &usual_); }
  void OnListenerFailed(const absl::Status& status) override {
    const rlimit none = {0, usual_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    Recorder::OnListenerFailed(status);
  }
  void End() { EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &usual_), 0); }

 private:
  rlimit usual_;
};

TEST(FailureTest, AListenerWaitsForFileDescriptors) {
  Shortage recorder;
  Cluster cluster;
  cluster.set_observer(&recorder);
  cluster.Start(2, Echo());
  const std::string address = AddressOf(cluster, "w0");
  BreakListener(address);
  ASSERT_TRUE(recorder.WaitFor("listener failed"));
  // Time enough to try in vain.
  RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(350));
  EXPECT_EQ(recorder.Count("listening"), 2);
  recorder.End();
  ASSERT_TRUE(recorder.WaitFor("listening", 3));
  EXPECT_NE(AddressOf(cluster, "w0"), address);
  EXPECT_TRUE(cluster[1].Send("w0", Request("")).status().ok());
}

TEST(FailureTest, AStoreOutageDoesNotHarmFirstCalls) {
  std::atomic<bool> down = false;
  Cluster whole;
  Cluster cluster(MakeHookedStore(
      whole.store(),
      [&](const std::string&, const std::string&) {
        return down ? absl::UnavailableError("down") : absl::OkStatus();
      },
      nullptr));
  cluster.Start(2, Echo());
  down = true;
  const Future reply = cluster[0].Send("w1", Request(""));
  ASSERT_TRUE(reply.Wait(Soon()));
  EXPECT_TRUE(reply.status().ok()) << reply.status();
}

TEST(FailureTest, APeerThatWasRestartedIsReachedAgain) {
  Recorder recorder;
  Cluster cluster;
  cluster.set_observer(&recorder);
  cluster.Start(2, Echo());
  for (int i = 1; i <= 3; ++i) {
    ASSERT_TRUE(cluster[0].Send("w1", Request("")).status().ok());
    cluster.Stop(1);
    // Noticed without a call (defect 5).
    ASSERT_TRUE(recorder.WaitFor("pipe failed w1", i));
    ASSERT_TRUE(cluster.StartOne(OptionsFor(1, 2), Echo(), Soon()).ok());
  }
  const Future reply = cluster[0].Send("w1", Request("again"));
  ASSERT_TRUE(reply.Wait(Soon()));
  EXPECT_TRUE(reply.status().ok()) << reply.status();
  EXPECT_EQ(cluster[0].GetMetrics()["agent.reconnects"], 3);
}

TEST(FailureTest, CallsToAPeerThatIsGoneFailWithTheCause) {
  Gate entered;
  Gate gate;
  Recorder recorder;
  Cluster cluster;
  cluster.set_observer(&recorder);
  cluster.Start(3, Blocking([&](Message request,
                                const RequestInfo&) -> absl::StatusOr<Message> {
                  if (request.payload == "block") {
                    entered.Open();
                    gate.Wait();
                  }
                  request.type = MessageType::kScriptRet;
                  return request;
                }));
  const Future pending = cluster[0].Send("w1", Request("block"));
  ASSERT_TRUE(entered.Wait());
  const std::unique_ptr<Thread> stopping = RealRuntime().StartThread(
      "stopping", [&] { EXPECT_TRUE(cluster[1].Shutdown(Soon()).ok()); });
  ASSERT_TRUE(pending.Wait(Soon()));
  EXPECT_EQ(pending.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Text(pending.status()), HasSubstr("connection to w1 failed: "));
  gate.Open();
  stopping->Join();
  // Nobody listens there any more.
  for (int i = 0; i < 3; ++i) {
    const Future refused = cluster[0].Send("w1", Request(""));
    ASSERT_TRUE(refused.Wait(Soon()));
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnavailable);
    // uv's words, or the system's.
    EXPECT_THAT(absl::AsciiStrToLower(Text(refused.status())),
                AllOf(HasSubstr("connection to w1 failed: "),
                      HasSubstr("connection refused")));
  }
  // And the others are none the worse for it.
  EXPECT_TRUE(cluster[0].Send("w2", Request("")).status().ok());
  EXPECT_TRUE(cluster[0].Shutdown(Soon()).ok());
  EXPECT_EQ(cluster[0].GetMetrics()["agent.pending_calls"], 0);
  EXPECT_EQ(cluster[0].GetMetrics()["agent.client_active_calls"], 0);
}

TEST(FailureTest, AConnectionThatCarriesNothingFails) {
  // A socket that listens and never answers.
  const int silent = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(bind(silent, reinterpret_cast<const sockaddr*>(&address),
                 sizeof(address)),
            0);
  ASSERT_EQ(listen(silent, 8), 0);
  socklen_t size = sizeof(address);
  ASSERT_EQ(getsockname(silent, reinterpret_cast<sockaddr*>(&address), &size),
            0);
  Cluster cluster;
  ASSERT_TRUE(cluster.store()->Set("names/1", "w1", Soon()).ok());
  ASSERT_TRUE(
      cluster.store()
          ->Set("addrs/w1",
                absl::StrCat("uv://127.0.0.1:", ntohs(address.sin_port)),
                Soon())
          .ok());
  AgentOptions options = OptionsFor(0, 2);
  options.connect_timeout = absl::Milliseconds(30);
  ASSERT_TRUE(cluster.StartOne(options, Echo(), Soon()).ok());
  const absl::Time start = RealRuntime().Now();
  const Future reply = cluster[0].Send("w1", Request(""));
  ASSERT_TRUE(reply.Wait(Soon()));
  EXPECT_GE(RealRuntime().Now() - start, absl::Milliseconds(30));
  EXPECT_TRUE(absl::IsUnavailable(reply.status()));
  EXPECT_EQ(reply.status().message(),
            "connection to w1 failed: nothing came through in 30ms");
  EXPECT_EQ(cluster[0].GetMetrics()["agent.pipes"], 0);
  close(silent);
}

TEST(ShutdownTest, FailsPendingCallsAndLeavesNothing) {
  Gate gate;
  Recorder recorder;
  Cluster cluster;
  cluster.set_observer(&recorder);
  cluster.Start(2, EchoAfter(gate));
  std::vector<Future> pending;
  std::atomic<int> callbacks = 0;
  for (int i = 0; i < 10; ++i) {
    pending.push_back(cluster[0].Send("w1", Request("")));
    pending.back().Then([&](const Future::Result&) { ++callbacks; });
  }
  ASSERT_TRUE(recorder.WaitFor("request"));
  EXPECT_TRUE(cluster[0].Shutdown(Soon()).ok());
  EXPECT_EQ(callbacks, 10);
  for (const Future& call : pending) {
    EXPECT_TRUE(call.done());
    EXPECT_TRUE(absl::IsCancelled(call.status()));
    EXPECT_EQ(call.status().message(), "agent w0 was shut down");
  }
  auto metrics = cluster[0].GetMetrics();
  for (const char* key :
       {"agent.pending_calls", "agent.timers", "agent.pipes",
        "agent.client_active_calls", "agent.server_active_calls",
        "agent.server_active_async_calls"}) {
    ASSERT_EQ(metrics.count(key), 1u) << key;
    EXPECT_EQ(metrics[key], 0) << key;
  }
  EXPECT_TRUE(cluster[0].Shutdown(Soon()).ok());  // again
  const Future refused = cluster[0].Send("w1", Request(""));
  EXPECT_TRUE(absl::IsFailedPrecondition(refused.status()));
  EXPECT_EQ(refused.status().message(),
            "Node 0tried to send() a message of type 256 but RPC is no longer "
            "running on this node.");
  gate.Open();
}

TEST(ShutdownTest, CallsOfHandlersFailAtOnce) {
  Gate entered;
  absl::Status nested;
  Cluster cluster;
  cluster.Start(
      2,
      [&](const Message&, const RequestInfo&, Reply reply) {
        entered.Open();
        // Waits for itself: only the shutdown can end that.
        nested = cluster[1]
                     .Send("w1", Request(""), {.timeout = absl::ZeroDuration()})
                     .status();
        reply(absl::InternalError("unheard"));
      },
      [](AgentOptions& options) { options.num_worker_threads = 1; });
  const Future call = cluster[0].Send("w1", Request(""));
  ASSERT_TRUE(entered.Wait());
  EXPECT_TRUE(cluster[1].Shutdown(Soon()).ok());
  EXPECT_TRUE(nested.code() == absl::StatusCode::kCancelled ||
              nested.code() == absl::StatusCode::kFailedPrecondition)
      << nested;
}

// With the channel cma, a peer that is still copying would otherwise get, and
// take for its tensor, whatever comes to lie there next.
TEST(ShutdownTest, LetsPeersTakeTheTensorsThatWereSent) {
  constexpr int64_t kBytes = int64_t{16} << 20;
  for (const char* channel : {"basic", "cma", "mpt_uv"}) {
    SCOPED_TRACE(channel);
    Gate came;
    bool whole = false;
    Cluster cluster;
    cluster.Start(
        2,
        Blocking([&](Message request,
                     const RequestInfo&) -> absl::StatusOr<Message> {
          if (!request.tensors.empty()) {
            const std::shared_ptr<Storage> got = request.tensors[0].storage;
            const auto* bytes = static_cast<const char*>(got->data());
            whole = std::all_of(bytes, bytes + got->num_bytes(),
                                [](char byte) { return byte == 7; });
            came.Open();
          }
          return Message{MessageType::kScriptRet, "", {}};
        }),
        [&](AgentOptions& options) { options.transport.channels = {channel}; });
    // Opens the connection of large messages.
    ASSERT_TRUE(
        cluster[0]
            .Send("w1", Request("hello"), CallOptions{.lane = Lane::kBulk})
            .status()
            .ok());
    Message request = Request("take this");
    request.tensors = {*MakeTensor(DType::kUInt8, {kBytes})};
    std::memset(request.tensors[0].storage->data(), 7, kBytes);
    const Future call = cluster[0].Send("w1", std::move(request));
    cluster.Stop(0);
    EXPECT_TRUE(absl::IsCancelled(call.status())) << call.status();
    EXPECT_TRUE(came.Wait());
    EXPECT_TRUE(whole);
  }
}

TEST(ShutdownTest, InTheMiddleOfCallsFromManyThreads) {
  for (int round = 0; round < 20; ++round) {
    Recorder recorder;
    {
      Cluster cluster;
      cluster.set_observer(&recorder);
      cluster.Start(2, Echo());
      std::atomic<int> sent = 0;
      std::vector<std::unique_ptr<Thread>> threads;
      for (int t = 0; t < 4; ++t) {
        threads.push_back(RealRuntime().StartThread("caller", [&] {
          for (int i = 0; i < 100; ++i) {
            const Future call = cluster[0].Send(
                "w1", Request(""), {.timeout = absl::Microseconds(400)});
            ++sent;
            if (i % 7 == 0) call.Cancel();
            EXPECT_TRUE(call.Wait(Soon()));
          }
        }));
      }
      while (sent < 20 * (round % 8)) {
        RealRuntime().SleepUntil(RealRuntime().Now() + absl::Microseconds(50));
      }
      EXPECT_TRUE(cluster[round % 2].Shutdown(Soon()).ok());
      for (const std::unique_ptr<Thread>& thread : threads) thread->Join();
      EXPECT_TRUE(cluster[0].Shutdown(Soon()).ok());
      EXPECT_EQ(cluster[0].GetMetrics()["agent.client_active_calls"], 0);
      EXPECT_EQ(cluster[0].GetMetrics()["agent.pending_calls"], 0);
      EXPECT_EQ(cluster[0].GetMetrics()["agent.timers"], 0);
    }
    EXPECT_EQ(recorder.Count("started"), recorder.Count("completed"));
    EXPECT_EQ(recorder.events().back(), "shutdown");
  }
}

}  // namespace
}  // namespace reprise::testing

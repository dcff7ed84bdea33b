// First calls to a peer that is not where it was when the group came together.

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/agent.h"
#include "agent/call_error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"
#include "tests/unit/agent/hooked_store.h"
#include "tests/unit/agent/recorder.h"

namespace reprise::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

// Two workers. A test can do something while w0's address is looked up.
class MovedPeerTest : public ::testing::Test {
 protected:
  MovedPeerTest() { cluster_.set_observer(&recorder_); }

  void StartAndMove() {
    cluster_.Start(
        2, Blocking([this](const Message& request,
                           const RequestInfo&) -> absl::StatusOr<Message> {
          MutexLock lock(mutex_);
          served_.push_back(request.payload);
          return Message{MessageType::kScriptRet, "", {}};
        }));
    BreakListener(*whole_.store()->TryGet("addrs/w0", Soon()));
    ASSERT_TRUE(recorder_.WaitFor("listening", 3));
  }
  std::vector<std::string> served() {
    MutexLock lock(mutex_);
    return served_;
  }

  Recorder recorder_;
  std::atomic<bool> is_hooked_ = false;
  std::function<void()> on_lookup_;
  Mutex mutex_{RealRuntime(), "served"};
  std::vector<std::string> served_;
  Cluster whole_;
  Cluster cluster_{MakeHookedStore(
      whole_.store(),
      [this](const std::string& call, const std::string& key) {
        if (call == "TryGet" && key == "addrs/w0" &&
            is_hooked_.exchange(false)) {
          on_lookup_();
        }
        return absl::OkStatus();
      },
      nullptr)};
};

TEST_F(MovedPeerTest, CallsWaitForTheNewAddress) {
  StartAndMove();
  std::optional<Future> first, unwanted, last;
  Gate called;
  on_lookup_ = [&] {
    called.Wait();
    EXPECT_FALSE(first->done());
    unwanted->Cancel();
    last = cluster_[1].Send("w0", Request("last"));
  };
  is_hooked_ = true;
  first = cluster_[1].Send("w0", Request("first"));
  unwanted = cluster_[1].Send("w0", Request("unwanted"));
  called.Open();
  ASSERT_TRUE(first->Wait(Soon()));
  EXPECT_TRUE(first->status().ok()) << first->status();
  ASSERT_TRUE(last->Wait(Soon()));
  EXPECT_TRUE(last->status().ok()) << last->status();
  EXPECT_THAT(served(), UnorderedElementsAre("first", "last"));
  EXPECT_EQ(cluster_[1].GetMetrics()["agent.pending_calls"], 0);
}

TEST_F(MovedPeerTest, CallsFailWhenTheStoreDoesNotAnswer) {
  StartAndMove();
  Gate answer;
  on_lookup_ = [&] { answer.Wait(); };
  is_hooked_ = true;
  const Future call = cluster_[1].Send("w0", Request(""));
  ASSERT_TRUE(call.Wait(Soon()));
  answer.Open();
  EXPECT_TRUE(absl::IsUnavailable(call.status())) << call.status();
  EXPECT_THAT(std::string(call.status().message()), HasSubstr("refused"));
  EXPECT_THAT(served(), ElementsAre());
  // The next call asks again.
  EXPECT_TRUE(cluster_[1].Send("w0", Request("")).status().ok());
}

TEST_F(MovedPeerTest, CallsToNobodyHaveNotRun) {
  cluster_.Start(2, Echo());
  cluster_.Stop(0);
  const Future call = cluster_[1].Send("w0", Request(""));
  ASSERT_TRUE(call.Wait(Soon()));
  EXPECT_TRUE(absl::IsUnavailable(call.status())) << call.status();
  const std::optional<CallError> error = CallErrorOf(call.status());
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->source, CallErrorSource::kTransport);
  EXPECT_FALSE(error->may_have_run);
  EXPECT_TRUE(error->retry_may_help);
}

}  // namespace
}  // namespace reprise::testing

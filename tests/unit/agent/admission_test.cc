#include "agent/server/admission.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/runtime/thread_pool.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"

namespace reprise::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class AdmissionTest : public ::testing::Test {
 protected:
  ~AdmissionTest() override {
    hold_.Open();
    if (admission_ != nullptr) admission_->Close();
    workers_.Stop();
  }

  void Start(const ServerBounds& bounds) {
    admission_ = std::make_shared<Admission>(RealRuntime(), workers_, bounds);
  }

  Admission::PeerPtr Connect(const std::string& name) {
    absl::StatusOr<Admission::PeerPtr> peer = admission_->Connect(name);
    EXPECT_TRUE(peer.ok()) << peer.status();
    return *std::move(peer);
  }

  // Occupies the only thread until `hold_` is opened.
  void Hold(const Admission::PeerPtr& peer) {
    Gate started;
    ASSERT_TRUE(admission_
                    ->Enqueue(peer, 0,
                              [this, &started](Admission::Slot) {
                                started.Open();
                                hold_.Wait();
                              })
                    .ok());
    ASSERT_TRUE(started.Wait());
  }

  // A request that enters its name in `ran_`.
  absl::Status Enqueue(const Admission::PeerPtr& peer, std::string name,
                       size_t bytes = 1) {
    return admission_->Enqueue(peer, bytes,
                               [this, name = std::move(name)](Admission::Slot) {
                                 MutexLock lock(mutex_);
                                 ran_.push_back(name);
                                 changed_.NotifyAll();
                               });
  }

  // Waits until `number` requests have run, and returns them.
  std::vector<std::string> Ran(size_t number) {
    const absl::Time deadline = Soon();
    MutexLock lock(mutex_);
    while (ran_.size() < number && changed_.WaitUntil(mutex_, deadline)) {
    }
    return ran_;
  }

  ThreadPool workers_{RealRuntime(), "worker", 1};
  std::shared_ptr<Admission> admission_;
  Gate hold_;
  Mutex mutex_{RealRuntime(), "test"};
  CondVar changed_{RealRuntime(), "test.changed"};
  std::vector<std::string> ran_;
};

TEST_F(AdmissionTest, PeersTakeTurns) {
  Start({});
  const Admission::PeerPtr a = Connect("a");
  const Admission::PeerPtr b = Connect("b");
  const Admission::PeerPtr c = Connect("c");
  Hold(a);
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(Enqueue(a, absl::StrCat("a", i)).ok());
  }
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(Enqueue(b, absl::StrCat("b", i)).ok());
  }
  ASSERT_TRUE(Enqueue(c, "c0").ok());
  hold_.Open();
  EXPECT_THAT(Ran(7), ElementsAre("a0", "b0", "c0", "a1", "b1", "a2", "a3"));
}

TEST_F(AdmissionTest, WhatExceedsAQueueIsRefused) {
  ServerBounds bounds;
  bounds.queued_per_peer = {2, 100};
  bounds.queued_in_all = {3, 150};
  Start(bounds);
  const Admission::PeerPtr a = Connect("a");
  const Admission::PeerPtr b = Connect("b");
  Hold(a);
  // One request alone may exceed the bytes.
  EXPECT_TRUE(Enqueue(a, "a0", 120).ok());
  absl::Status refused = Enqueue(a, "a1", 1);
  EXPECT_TRUE(absl::IsResourceExhausted(refused));
  EXPECT_THAT(refused.message(),
              HasSubstr("1 requests with 120 bytes of a wait for a thread "
                        "(server_bounds.queued_per_peer is 2 requests and 100 "
                        "bytes)"));
  EXPECT_TRUE(Enqueue(b, "b0", 1).ok());
  EXPECT_TRUE(Enqueue(b, "b1", 1).ok());
  refused = Enqueue(b, "b2", 1);
  EXPECT_THAT(refused.message(), HasSubstr("2 requests with 2 bytes of b"));
  refused = Enqueue(Connect("c"), "c0", 1);
  EXPECT_TRUE(absl::IsResourceExhausted(refused));
  EXPECT_THAT(refused.message(), HasSubstr("queued_in_all is 3 requests"));
  EXPECT_EQ(admission_->refused().for_bytes, 1);
  EXPECT_EQ(admission_->refused().for_calls, 2);
  EXPECT_EQ(admission_->loads().queued.bytes, 122);
  hold_.Open();
  EXPECT_THAT(Ran(3), ElementsAre("a0", "b0", "b1"));
  EXPECT_TRUE(Enqueue(a, "a2", 1).ok());
  EXPECT_EQ(Ran(4).back(), "a2");
}

TEST_F(AdmissionTest, ConnectionsAreBounded) {
  ServerBounds bounds;
  bounds.connections_per_peer = 2;
  bounds.connections_in_all = 3;
  Start(bounds);
  const Admission::PeerPtr a = Connect("a");
  Connect("a");
  EXPECT_THAT(admission_->Connect("a").status().message(),
              HasSubstr("a has 2 connections"));
  Connect("b");
  EXPECT_THAT(admission_->Connect("b").status().message(),
              HasSubstr("there are 3 connections"));
  EXPECT_EQ(admission_->refused().connections, 2);
  admission_->Disconnect(*a);
  Connect("b");
}

TEST_F(AdmissionTest, ARequestRunsUntilItsSlotIsGone) {
  ServerBounds bounds;
  bounds.running_per_peer = {1, 1000};
  Start(bounds);
  const Admission::PeerPtr a = Connect("a");
  const Admission::PeerPtr b = Connect("b");
  // The handler of the request has returned, and the reply is still to come.
  Admission::Slot slot;
  Gate started;
  ASSERT_TRUE(admission_
                  ->Enqueue(a, 1,
                            [&](Admission::Slot its) {
                              slot = std::move(its);
                              started.Open();
                            })
                  .ok());
  ASSERT_TRUE(started.Wait());
  ASSERT_TRUE(Enqueue(a, "a1").ok());
  ASSERT_TRUE(Enqueue(b, "b0").ok());
  EXPECT_THAT(Ran(1), ElementsAre("b0"));
  EXPECT_EQ(admission_->loads().queued.calls, 1);
  slot.Release();
  EXPECT_THAT(Ran(2), ElementsAre("b0", "a1"));
}

TEST_F(AdmissionTest, NothingIsStartedForAPeerThatTakesNoReplies) {
  ServerBounds bounds;
  bounds.unwritten_per_peer = {10, 100};
  bounds.unwritten_in_all = {10, 150};
  Start(bounds);
  const Admission::PeerPtr a = Connect("a");
  const Admission::PeerPtr b = Connect("b");
  const Admission::PeerPtr c = Connect("c");
  admission_->ReplyStarted(*a, 100);
  admission_->ReplyStarted(*b, 60);
  ASSERT_TRUE(Enqueue(a, "a0").ok());
  ASSERT_TRUE(Enqueue(b, "b0").ok());
  ASSERT_TRUE(Enqueue(c, "c0").ok());
  EXPECT_THAT(Ran(1), ElementsAre("c0"));
  // There is room for all again, and for b, but not for a.
  admission_->ReplyStarted(*a, 1);
  admission_->ReplyEnded(*b, 60);
  EXPECT_THAT(Ran(2), ElementsAre("c0", "b0"));
  admission_->ReplyEnded(*a, 1);
  EXPECT_EQ(admission_->loads().queued.calls, 1);
  admission_->ReplyEnded(*a, 100);
  EXPECT_THAT(Ran(3), ElementsAre("c0", "b0", "a0"));
}

TEST_F(AdmissionTest, ClosedItDropsWhatIsQueued) {
  Start({});
  const Admission::PeerPtr a = Connect("a");
  Hold(a);
  auto held = std::make_shared<int>();
  ASSERT_TRUE(admission_->Enqueue(a, 1, [held](Admission::Slot) {}).ok());
  EXPECT_EQ(held.use_count(), 2);
  admission_->Close();
  EXPECT_EQ(held.use_count(), 1);
  EXPECT_TRUE(Enqueue(a, "late").ok());
  hold_.Open();
  workers_.Stop();
  EXPECT_THAT(ran_, IsEmpty());
  EXPECT_EQ(admission_->loads().queued.calls, 0);
  EXPECT_EQ(admission_->loads().running.calls, 0);
}

TEST_F(AdmissionTest, APeerIsForgottenWhenNothingOfItsIsLeft) {
  Start({});
  const Admission::PeerPtr a = Connect("a");
  admission_->ReplyStarted(*a, 7);
  admission_->Disconnect(*a);
  ASSERT_EQ(admission_->loads_by_peer().size(), 1);
  EXPECT_EQ(admission_->loads_by_peer()[0].second.unwritten.bytes, 7);
  // There is nobody to answer.
  EXPECT_TRUE(Enqueue(a, "a0").ok());
  admission_->ReplyEnded(*a, 7);
  EXPECT_THAT(admission_->loads_by_peer(), IsEmpty());
  EXPECT_THAT(Ran(0), IsEmpty());
}

}  // namespace
}  // namespace reprise::testing

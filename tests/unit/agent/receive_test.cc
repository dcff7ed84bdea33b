// Replies that are received into memory of the caller's: where the bytes lie
// when a call has succeeded, and when the memory is free after one that has
// not.

#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "agent/agent.h"
#include "agent/client/reply_memory.h"
#include "agent/device/tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"
#include "tests/unit/agent/holding_proxy.h"

namespace reprise::testing {
namespace {

using ::testing::HasSubstr;

constexpr size_t kLarge = size_t{8} << 20;
constexpr size_t kRow = size_t{1} << 20;
constexpr char kFree = 0x55;  // what free memory is filled with

bool Reaches(const std::atomic<int>& counter, int value) {
  const absl::Time deadline = Soon();
  while (counter != value) {
    if (RealRuntime().Now() > deadline) return false;
    RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(1));
  }
  return true;
}

// Memory that a reply may be received into.
class Room {
 public:
  explicit Room(std::vector<size_t> sizes) {
    for (const size_t size : sizes) {
      rows_.emplace_back(size, kFree);
    }
  }
  ~Room() { EXPECT_TRUE(Reaches(released_, given_)); }

  // For one call.
  ReceiveInto Give() {
    ++given_;
    ReceiveInto into;
    for (std::vector<char>& row : rows_) {
      into.storages.push_back(BorrowCpu(row.data(), row.size()));
    }
    into.release_guard = OnReleased([this] { ++released_; });
    return into;
  }
  bool IsReleased() const { return released_ == given_; }
  bool WaitUntilReleased() const { return Reaches(released_, given_); }
  // Only while nobody writes to it.
  std::vector<std::vector<char>>& rows() { return rows_; }
  bool IsFree() const {
    for (const std::vector<char>& row : rows_) {
      if (row != std::vector<char>(row.size(), kFree)) return false;
    }
    return true;
  }
  void Fill() {
    for (std::vector<char>& row : rows_) row.assign(row.size(), kFree);
  }

 private:
  std::vector<std::vector<char>> rows_;
  int given_ = 0;
  std::atomic<int> released_ = 0;
};

Tensor Bytes(size_t size, char value) {
  Tensor tensor = *MakeTensor(DType::kUInt8, {static_cast<int64_t>(size)});
  if (size > 0) std::memset(tensor.storage->data(), value, size);
  return tensor;
}

// Counts what is received into memory of the agent's.
class CountingAllocator final : public CpuAllocator {
 public:
  absl::StatusOr<std::shared_ptr<Storage>> Allocate(size_t size) override {
    ++count;
    return AllocateCpu(size);
  }
  std::atomic<int> count = 0;
};

// A handler that answers with the tensors; they are filled with `value`.
RequestHandler AnswerWith(std::vector<size_t> sizes, char value) {
  return Blocking(
      [sizes = std::move(sizes), value](const Message&, const RequestInfo&) {
        Message reply{MessageType::kScriptRet, "", {}};
        for (const size_t size : sizes) {
          reply.tensors.push_back(Bytes(size, value));
        }
        return absl::StatusOr<Message>(std::move(reply));
      });
}

struct Way {
  const char* transport;
  const char* channel;
};

class ReceiveOverTest : public ::testing::TestWithParam<Way> {};

TEST_P(ReceiveOverTest, StraightIntoTheCallersMemory) {
  const auto allocator = std::make_shared<CountingAllocator>();
  Cluster cluster;
  // The first is as large as its memory, the others are smaller.
  cluster.Start(2, AnswerWith({kLarge, 0, 100}, 7), [&](AgentOptions& options) {
    options.transport.transports = {GetParam().transport};
    options.transport.channels = {GetParam().channel};
    if (options.id == 0) options.allocator = allocator;
  });
  Room room({kLarge, 10, 200, 300});
  for (int i = 0; i < 3; ++i) {
    const Future call =
        cluster[0].Send("w1", Request("x"), {.receive_into = room.Give()});
    ASSERT_TRUE(call.status().ok()) << call.status();
    const std::vector<Tensor>& tensors = call.result()->tensors;
    ASSERT_EQ(tensors.size(), 3u);
    EXPECT_EQ(tensors[0].storage->data(), room.rows()[0].data());
    EXPECT_EQ(tensors[0].storage->num_bytes(), kLarge);
    EXPECT_EQ(tensors[1].storage->num_bytes(), 0u);
    EXPECT_EQ(tensors[2].storage->data(), room.rows()[2].data());
    EXPECT_EQ(tensors[2].storage->num_bytes(), 100u);
    EXPECT_EQ(room.rows()[0], std::vector<char>(kLarge, 7));
    std::vector<char> third(200, kFree);
    std::fill(third.begin(), third.begin() + 100, 7);
    EXPECT_EQ(room.rows()[2], third);
    EXPECT_EQ(room.rows()[3], std::vector<char>(300, kFree));
    // The result shares the memory, and the agent has let go of it.
    EXPECT_TRUE(room.WaitUntilReleased());
    room.Fill();
  }
  EXPECT_EQ(allocator->count, 0);
}

INSTANTIATE_TEST_SUITE_P(
    Ways, ReceiveOverTest,
    ::testing::Values(Way{"uv", "basic"}, Way{"uv", "mpt_uv"},
                      Way{"shm", "basic"}, Way{"shm", "cma"}),
    [](const ::testing::TestParamInfo<Way>& info) {
      return absl::StrCat(info.param.transport, "_", info.param.channel);
    });

TEST(ReceiveTest, FromAPeerThatSaysNoIdsByOneCopy) {
  const auto allocator = std::make_shared<CountingAllocator>();
  Cluster cluster;
  cluster.Start(2, AnswerWith({1000, 0, 100}, 7));
  // As a worker of an older version has it.
  const std::string key = "reprise/features/w1";
  const std::string features = *cluster.store()->TryGet(key, Soon());
  ASSERT_THAT(features, HasSubstr(" reply-id"));
  ASSERT_TRUE(
      cluster.store()
          ->Set(key, absl::StrReplaceAll(features, {{" reply-id", ""}}), Soon())
          .ok());
  StartCallerThrough(
      cluster, PortOfWorker(cluster, 1),
      [&](AgentOptions& options) { options.allocator = allocator; });
  Room room({1000, 0, 200});
  const Future call =
      cluster[0].Send("w1", Request("x"), {.receive_into = room.Give()});
  ASSERT_TRUE(call.status().ok()) << call.status();
  EXPECT_EQ(allocator->count, 3);
  EXPECT_EQ(call.result()->tensors[0].storage->data(), room.rows()[0].data());
  EXPECT_EQ(room.rows()[0], std::vector<char>(1000, 7));
  EXPECT_EQ(call.result()->tensors[2].storage->data(), room.rows()[2].data());
  EXPECT_TRUE(room.WaitUntilReleased());
  Room small({1000, 0, 99});
  const absl::Status status =
      cluster[0]
          .Send("w1", Request("x"), {.receive_into = small.Give()})
          .status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
}

TEST(ReceiveTest, WhatDoesNotFitFailsItsCallAlone) {
  Cluster cluster;
  cluster.Start(2, AnswerWith({kLarge, 100}, 7));
  const CallError error{CallErrorSource::kCaller, /*may_have_run=*/true,
                        /*retry_may_help=*/false};
  Room small({kLarge, 99});
  absl::Status status =
      cluster[0]
          .SendWithRetries("w1", Request("x"), {.receive_into = small.Give()})
          .status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_EQ(status.message(),
            "cannot read the reply of w1: its tensors do not fit into "
            "CallOptions::receive_into: storage 1 of the reply has 100 bytes, "
            "and its memory 99");
  EXPECT_EQ(CallErrorOf(status), error);
  EXPECT_TRUE(small.WaitUntilReleased());
  EXPECT_TRUE(small.IsFree());

  Room few({kLarge});
  status = cluster[0]
               .Send("w1", Request("x"), {.receive_into = few.Give()})
               .status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("there is memory for 1 storages"));
  EXPECT_EQ(CallErrorOf(status), error);
  EXPECT_TRUE(few.WaitUntilReleased());
  EXPECT_TRUE(few.IsFree());

  // The connection is as good as before.
  Room enough({kLarge, 100});
  const Future call =
      cluster[0].Send("w1", Request("x"), {.receive_into = enough.Give()});
  EXPECT_TRUE(call.status().ok()) << call.status();
  EXPECT_EQ(cluster[0].GetMetrics()["agent.reconnects"], 0);
}

TEST(ReceiveTest, AReplyWithoutTensorsLeavesTheMemoryAlone) {
  Cluster cluster;
  cluster.Start(2, Blocking([](const Message&,
                               const RequestInfo&) -> absl::StatusOr<Message> {
                  return absl::NotFoundError("no such row");
                }));
  Room room({100});
  const Future call =
      cluster[0].Send("w1", Request("x"), {.receive_into = room.Give()});
  EXPECT_TRUE(absl::IsNotFound(call.status())) << call.status();
  EXPECT_TRUE(room.WaitUntilReleased());
  EXPECT_TRUE(room.IsFree());
}

TEST(ReceiveTest, MemoryThatIsNoneIsRefused) {
  Cluster cluster;
  cluster.Start(1, Echo());
  const absl::Status status =
      cluster[0]
          .Send("w0", Request("x"),
                {.receive_into = {.storages = {*AllocateCpu(1), nullptr}}})
          .status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("storage 1 of"));
}

// Its tensor comes over a connection of its own, which is not held; its payload
// is, and they arrive as one.
RequestHandler AnswerAtLength() {
  return Blocking([](const Message&, const RequestInfo&) {
    return absl::StatusOr<Message>(Message{
        MessageType::kScriptRet, std::string(kLarge, 'x'), {Bytes(kRow, 7)}});
  });
}

// A reply that stops in the middle, on its way to the room.
class HeldReplyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    cluster_.Start(2, AnswerAtLength());
    proxy_ = std::make_unique<HoldingProxy>(PortOfWorker(cluster_, 1));
    StartCallerThrough(cluster_, proxy_->port(), [](AgentOptions& options) {
      options.keepalive_interval = absl::ZeroDuration();
    });
    ASSERT_TRUE(cluster_[0].Send("w1", Request("x"), kLane).status().ok());
  }
  void TearDown() override {
    EXPECT_TRUE(room_.WaitUntilReleased());
    if (!cluster_.has(1)) return;
    room_.Fill();
    // Nobody writes to it any more, whatever else is received.
    EXPECT_TRUE(
        cluster_[0].SendWithRetries("w1", Request("x"), kLane).status().ok());
    EXPECT_TRUE(room_.IsFree());
  }

  // A call whose reply is held in the middle.
  Future CallAndHold(CallOptions options = {}) {
    options.receive_into = room_.Give();
    options.lane = kLane.lane;
    proxy_->Hold(HoldingProxy::kFromTarget, kLarge / 2);
    Future call = cluster_[0].Send("w1", Request("x"), options);
    EXPECT_TRUE(proxy_->WaitUntilHeld());
    return call;
  }
  // Ends calls by `end` until one ends in the middle of its reply: the agent
  // may be late to see what the proxy has let through.
  void EndInTheMiddle(const CallOptions& options,
                      const std::function<void(const Future&)>& end) {
    const absl::Time deadline = Soon();
    while (RealRuntime().Now() < deadline) {
      CallOptions next = options;
      next.timeout *= ++attempts_;
      const Future call = CallAndHold(next);
      end(call);
      ASSERT_TRUE(call.Wait(Soon()));
      EXPECT_FALSE(call.status().ok());
      // Long enough for a guard that is dropped too early.
      RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(20));
      if (!room_.IsReleased()) return;
      proxy_->Release();
      ASSERT_TRUE(cluster_[0].Send("w1", Request("x"), kLane).status().ok());
      room_.Fill();
    }
    FAIL() << "no reply was on its way when its call ended";
  }

  const CallOptions kLane{.lane = Lane::kPriority};
  int attempts_ = 0;
  Room room_{{kRow}};
  Cluster cluster_;
  std::unique_ptr<HoldingProxy> proxy_;
};

TEST_F(HeldReplyTest, TheMemoryOfACallThatTimedOutIsHeldUntilTheReplyIsThere) {
  EndInTheMiddle({.timeout = absl::Milliseconds(50)}, [](const Future& call) {
    EXPECT_TRUE(absl::IsDeadlineExceeded(call.status())) << call.status();
  });
  EXPECT_FALSE(room_.IsReleased());
  proxy_->Release();
  ASSERT_TRUE(room_.WaitUntilReleased());
  // It has come after all, and into this memory.
  EXPECT_EQ(room_.rows()[0], std::vector<char>(kRow, 7));
}

TEST_F(HeldReplyTest, TheMemoryOfACallThatWasCancelledIsHeldAsLong) {
  EndInTheMiddle({.timeout = absl::Seconds(60)},
                 [](const Future& call) { call.Cancel(); });
  EXPECT_FALSE(room_.IsReleased());
  proxy_->Release();
  ASSERT_TRUE(room_.WaitUntilReleased());
  EXPECT_EQ(room_.rows()[0], std::vector<char>(kRow, 7));
}

TEST_F(HeldReplyTest, ABreakInTheMiddleLetsGoOfTheMemory) {
  const Future call = CallAndHold();
  proxy_->Break();
  EXPECT_TRUE(absl::IsUnavailable(call.status())) << call.status();
  EXPECT_TRUE(room_.WaitUntilReleased());
}

TEST_F(HeldReplyTest, SoDoesTheDeathOfThePeer) {
  const Future call = CallAndHold();
  cluster_.Stop(1);
  proxy_->Release();
  EXPECT_TRUE(call.Wait(Soon()));
  EXPECT_TRUE(room_.WaitUntilReleased());
}

TEST_F(HeldReplyTest, SoDoesTheShutdownOfTheCaller) {
  const Future call = CallAndHold();
  EXPECT_TRUE(cluster_[0].Shutdown(Soon()).ok());
  EXPECT_FALSE(call.status().ok());
  // When it has returned, not some time later.
  EXPECT_TRUE(room_.IsReleased());
  proxy_->Release();
  StartCallerThrough(cluster_, proxy_->port());
}

TEST_F(HeldReplyTest, ARetryUsesTheSameMemory) {
  proxy_->Hold(HoldingProxy::kFromTarget, kLarge / 2);
  const Future call = cluster_[0].SendWithRetries(
      "w1", Request("x"),
      {.lane = Lane::kPriority, .receive_into = room_.Give()},
      {.retry_duration = absl::Milliseconds(1)});
  ASSERT_TRUE(proxy_->WaitUntilHeld());
  EXPECT_FALSE(room_.IsReleased());
  proxy_->Break();  // and the next connection is not held
  ASSERT_TRUE(call.status().ok()) << call.status();
  EXPECT_GE(cluster_[0].GetMetrics()["agent.retries"], 1);
  EXPECT_EQ(call.result()->tensors[0].storage->data(), room_.rows()[0].data());
  EXPECT_EQ(room_.rows()[0], std::vector<char>(kRow, 7));
}

TEST(ReplyMemoryTest, OneReplyAtATimeIsWrittenToIt) {
  std::atomic<int> released = 0;
  ReceiveInto into{.storages = {*AllocateCpu(100)},
                   .release_guard = OnReleased([&] { ++released; })};
  auto memory = std::make_shared<ReplyMemory>(std::move(into));
  std::shared_ptr<CpuAllocator> first = memory->Claim();
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(memory->Claim(), nullptr);
  Message reply{MessageType::kScriptRet, "", {Bytes(100, 7)}};
  const absl::Status status = memory->CopyInto(reply);
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_TRUE(RetryMayHelp(status));
  first.reset();
  EXPECT_TRUE(memory->CopyInto(reply).ok());
  // A claim keeps what its writer needs.
  first = memory->Claim();
  memory.reset();
  EXPECT_EQ(released, 0);
  const std::shared_ptr<Storage> storage = *first->Allocate(10);
  first.reset();
  EXPECT_EQ(released, 1);
  EXPECT_EQ(storage->num_bytes(), 10u);
  EXPECT_EQ(static_cast<char*>(storage->data())[0], 7);
}

}  // namespace
}  // namespace reprise::testing

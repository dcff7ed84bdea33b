// The channels for GPUs: what is reported as good is what was sent, whatever
// comes late, fails or ends.

#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/unit/transport/cuda/cuda_testing.h"
#include "tests/unit/transport/cuda/scenarios.h"

namespace reprise {
namespace {

using tensorpipe::Error;

bool IsDirect(Kind kind) {
  return kind == Kind::kDirect || kind == Kind::kDirectStaged ||
         kind == Kind::kBySize;
}

class CudaChannelTest : public testing::TestWithParam<Kind> {};

// Sends tensors of those sizes from one end to the other, and looks at each.
// The memory of each is used again as soon as it may be.
void Exchange(Ends& ends, bool backwards, const std::vector<size_t>& sizes) {
  auto& from = backwards ? *ends.link->far : *ends.link->near;
  auto& to = backwards ? *ends.link->near : *ends.link->far;
  FakeDriver& from_driver = backwards ? ends.far_driver : ends.near_driver;
  FakeDriver& to_driver = backwards ? ends.near_driver : ends.far_driver;
  std::deque<Tensor> sources;
  std::deque<Tensor> targets;
  std::vector<Result> results;
  for (size_t i = 0; i < sizes.size(); ++i) {
    Tensor& source = sources.emplace_back(from_driver, sizes[i], ends.kind);
    Tensor& target = targets.emplace_back(to_driver, sizes[i], ends.kind);
    source.Fill(static_cast<int>(i));
    results.push_back(SendTensor(from, source, [&, i](const Error& error) {
      if (error || source.num_bytes() == 0) return;
      if (IsFreeForAll(ends.kind)) source.Spoil();
      source.Fill(-1 - static_cast<int>(i));
    }));
    results.push_back(ReceiveTensor(to, target));
  }
  for (Result& result : results) {
    const Error error = Await(result);
    EXPECT_FALSE(error) << error.what();
  }
  for (size_t i = 0; i < sizes.size(); ++i) {
    EXPECT_TRUE(targets[i].Has(static_cast<int>(i))) << i;
  }
}

TEST_P(CudaChannelTest, TensorsOfAllSizes) {
  Ends ends(GetParam());
  ends.Connect();
  const size_t chunk = ChunkOf(GetParam());
  for (const bool backwards : {false, true}) {
    Exchange(ends, backwards,
             {0, 1, 0, chunk - 1, chunk, chunk + 1, size_t{40} << 20, 3});
  }
  EXPECT_EQ(ends.Finish(), "");
}

TEST_P(CudaChannelTest, ManyAtATimeBothWays) {
  Ends ends(GetParam(), /*seed=*/2);
  ends.Connect();
  const std::vector<size_t> sizes(150, 5000);
  std::thread other([&] { Exchange(ends, true, sizes); });
  Exchange(ends, false, sizes);
  other.join();
  EXPECT_EQ(ends.Finish(), "");
}

TEST_P(CudaChannelTest, ChannelsShareWhatTheirContextHas) {
  Ends ends(GetParam(), /*seed=*/3);
  ends.Connect();
  std::optional<Link> first = std::move(ends.link);
  ends.Connect();
  std::deque<Tensor> sources;
  std::deque<Tensor> targets;
  std::vector<Result> results;
  for (int i = 0; i < 6; ++i) {
    Link& link = i % 2 == 0 ? *first : *ends.link;
    Tensor& source =
        sources.emplace_back(ends.near_driver, size_t{9} << 20, ends.kind);
    Tensor& target =
        targets.emplace_back(ends.far_driver, size_t{9} << 20, ends.kind);
    source.Fill(i);
    results.push_back(SendTensor(*link.near, source));
    results.push_back(ReceiveTensor(*link.far, target));
  }
  for (Result& result : results) {
    const Error error = Await(result);
    EXPECT_FALSE(error) << error.what();
  }
  for (int i = 0; i < 6; ++i) EXPECT_TRUE(targets[i].Has(i)) << i;
  targets.clear();
  sources.clear();
  first.reset();
  EXPECT_EQ(ends.Finish(), "");
}

TEST_P(CudaChannelTest, WorkThatIsLateIsWaitedFor) {
  if (GetParam() == Kind::kXth || GetParam() == Kind::kIpc ||
      GetParam() == Kind::kDirect || GetParam() == Kind::kDirectStaged) {
    EXPECT_TRUE(SlowSender(GetParam()));
  }
  EXPECT_TRUE(SlowReceiver(GetParam(), /*gets_ahead=*/false));
}

// Whichever end closes whenever: what is reported as good is right, everything
// is called back, and nothing stays behind.
TEST_P(CudaChannelTest, OneEndClosesMidway) {
  int num_right = 0;
  int num_refused = 0;
  for (unsigned seed = 0; seed < 15; ++seed) {
    Ends ends(GetParam(), seed);
    ends.Connect();
    {
      std::deque<Tensor> sources;
      std::deque<Tensor> targets;
      std::vector<Result> sent;
      std::vector<Result> received;
      for (int i = 0; i < 4; ++i) {
        Tensor& source =
            sources.emplace_back(ends.near_driver, size_t{3} << 20, ends.kind);
        targets.emplace_back(ends.far_driver, size_t{3} << 20, ends.kind);
        source.Fill(i);
        sent.push_back(
            SendTensor(*ends.link->near, source, [&, i](const Error& error) {
              // A failed channel orders its own work before later work of the
              // stream, and that of a peer before the callback.
              if (IsFreeForAll(ends.kind) && !error) source.Spoil();
              source.Fill(100 + i);
            }));
        received.push_back(ReceiveTensor(*ends.link->far, targets.back()));
      }
      // At some moment: after that many callbacks.
      for (unsigned i = 0; i < seed % 5 && i < 4; ++i) Await(received[i]);
      (seed % 2 == 0 ? ends.link->near : ends.link->far)->close();
      for (int i = 0; i < 4; ++i) {
        if (sent[i].valid()) Await(sent[i]);
        const bool was_right = seed % 5 > static_cast<unsigned>(i);
        const bool is_good = was_right || !Await(received[i]);
        EXPECT_TRUE(!is_good || targets[i].Has(i)) << seed << " " << i;
        ++(is_good ? num_right : num_refused);
      }
    }
    EXPECT_EQ(ends.Finish(), "");
  }
  EXPECT_GT(num_right, 0);
  EXPECT_GT(num_refused, 0);
}

// Each call of the driver's fails once, at either end.
TEST_P(CudaChannelTest, AnErrorOfTheDriverIsOneOfTheChannel) {
  // One of two chunks, where there are any.
  const bool is_cut = GetParam() != Kind::kXth && GetParam() != Kind::kDirect;
  const size_t num_bytes = 1000 + (is_cut ? ChunkOf(GetParam()) : 0);
  for (const bool at_near : {true, false}) {
    int num_failures = 0;
    for (int n = 1; n < 400; ++n) {
      Ends ends(GetParam(), static_cast<unsigned>(n));
      FakeDriver& failing = at_near ? ends.near_driver : ends.far_driver;
      bool has_failed = false;
      {
        Tensor source(ends.near_driver, num_bytes, ends.kind);
        Tensor target(ends.far_driver, num_bytes, ends.kind);
        Tensor small(ends.near_driver, 100, ends.kind);
        Tensor small_target(ends.far_driver, 100, ends.kind);
        failing.FailCall(n);
        ends.Connect();
        source.Fill(1);
        small.Fill(2);
        Result sent = SendTensor(*ends.link->near, source);
        Result received = ReceiveTensor(*ends.link->far, target);
        Result sent_small = SendTensor(*ends.link->near, small);
        Result received_small = ReceiveTensor(*ends.link->far, small_target);
        const Error error = Await(received);
        EXPECT_FALSE(error.isOfType<tensorpipe::SystemError>());
        EXPECT_TRUE(error || target.Has(1)) << n;
        const Error error_small = Await(received_small);
        EXPECT_FALSE(error_small.isOfType<tensorpipe::SystemError>());
        EXPECT_TRUE(error_small || small_target.Has(2)) << n;
        EXPECT_FALSE(Await(sent).isOfType<tensorpipe::SystemError>());
        EXPECT_FALSE(Await(sent_small).isOfType<tensorpipe::SystemError>());
        has_failed = failing.HasFailed();
        failing.FailCall(0);
      }
      EXPECT_EQ(ends.Finish(), "") << n;
      if (!has_failed) break;
      ++num_failures;
    }
    EXPECT_GE(num_failures, 5);
    EXPECT_LT(num_failures, 399);
  }
}

TEST_P(CudaChannelTest, WorkThatFailedEarlierFailsTheSend) {
  // Of cuda_xth, cuda_ipc and cuda_direct the streams alone may know.
  Ends ends(GetParam());
  ends.Connect();
  {
    Tensor source(ends.near_driver, size_t{3} << 20, ends.kind);
    Tensor target(ends.far_driver, size_t{3} << 20, ends.kind);
    source.Fill(1);
    ends.near_driver.FailWork(source.stream());
    Result sent = SendTensor(*ends.link->near, source);
    Result received = ReceiveTensor(*ends.link->far, target);
    EXPECT_FALSE(Await(sent).isOfType<tensorpipe::SystemError>());
    const Error error = Await(received);
    EXPECT_FALSE(error.isOfType<tensorpipe::SystemError>());
    const bool is_stream_good =
        ends.far_driver.Synchronize(target.stream()).ok();
    EXPECT_TRUE(error || !is_stream_good);
    EXPECT_TRUE(error || !IsFreeForAll(ends.kind) || IsDirect(ends.kind));
  }
  EXPECT_EQ(ends.Finish(), "");
}

TEST_P(CudaChannelTest, AContextThatIsClosedEndsAllOperations) {
  Ends ends(GetParam());
  ends.Connect();
  {
    Tensor source(ends.near_driver, size_t{20} << 20, ends.kind);
    Tensor target(ends.far_driver, size_t{20} << 20, ends.kind);
    std::vector<Result> results;
    results.push_back(SendTensor(*ends.link->near, source));
    results.push_back(ReceiveTensor(*ends.link->far, target));
    ends.far->join();
    ends.near->join();
    results.push_back(SendTensor(*ends.link->near, source));
    results.push_back(ReceiveTensor(*ends.link->far, target));
    for (Result& result : results) {
      EXPECT_FALSE(Await(result).isOfType<tensorpipe::SystemError>());
    }
  }
  EXPECT_EQ(ends.Finish(), "");
}

TEST_P(CudaChannelTest, MemoryOfTheWrongKindIsAnError) {
  Ends ends(GetParam());
  ends.Connect();
  Tensor nothing(ends.near_driver, 0, ends.kind);
  auto sent = std::make_shared<std::promise<Error>>();
  ends.link->near->send(GpuBuffer{nullptr, nothing.stream()}, 10,
                        [sent](const Error& error) { sent->set_value(error); });
  Result result = sent->get_future();
  EXPECT_TRUE(Await(result));
}

INSTANTIATE_TEST_SUITE_P(All, CudaChannelTest, testing::ValuesIn(kAllKinds),
                         [](const auto& info) { return NameOf(info.param); });

// Memory that is sent first from one and then from another allocation at the
// same place, and from more allocations than a peer keeps open.
TEST(CudaDirectTest, AllocationsComeAndGo) {
  Ends ends(Kind::kDirect);
  ends.Connect();
  for (int i = 0; i < 200; ++i) {
    Tensor source(ends.near_driver, 4096, ends.kind);
    Tensor target(ends.far_driver, 4096, ends.kind);
    source.Fill(i);
    Result sent = SendTensor(*ends.link->near, source);
    Result received = ReceiveTensor(*ends.link->far, target);
    EXPECT_FALSE(Await(sent));
    EXPECT_FALSE(Await(received));
    EXPECT_TRUE(target.Has(i)) << i;
  }
  EXPECT_EQ(ends.Finish(), "");
}

// The sender's channel fails while the receiver's copy stands still: the memory
// stays the channel's until the copy is done.
TEST(CudaDirectTest, WhatIsBeingCopiedIsHeldAfterAnError) {
  for (const Kind kind : {Kind::kDirect, Kind::kDirectStaged}) {
    Ends ends(kind);
    ends.Connect();
    Tensor source(ends.near_driver, 4096, kind);
    Tensor target(ends.far_driver, 4096, kind);
    ends.far_driver.Hold(target.stream());
    source.Fill(1);
    Result sent = SendTensor(*ends.link->near, source, [&](const Error& error) {
      EXPECT_TRUE(error);
      source.Spoil();
    });
    Result received = ReceiveTensor(*ends.link->far, target);
    EXPECT_FALSE(Await(received));
    ends.link->near->close();
    // The far end learns of it, and its next receive fails.
    Tensor other(ends.far_driver, 4096, kind);
    Result refused = ReceiveTensor(*ends.link->far, other);
    EXPECT_TRUE(Await(refused));
    ends.far_driver.Release(target.stream());
    EXPECT_TRUE(target.Has(1));
    EXPECT_TRUE(Await(sent));
  }
}

// The receiver has replied, and its GPU stands still.
TEST(CudaIpcTest, StagingMemoryStaysUntilItHasBeenRead) {
  Ends ends(Kind::kIpc);
  ends.Connect();
  {
    Tensor source(ends.near_driver, 5000, ends.kind);
    Tensor target(ends.far_driver, 5000, ends.kind);
    source.Fill(1);
    ends.far_driver.Hold(target.stream());
    Result sent = SendTensor(*ends.link->near, source);
    Result received = ReceiveTensor(*ends.link->far, target);
    EXPECT_FALSE(Await(received));
    EXPECT_FALSE(Await(sent));
    std::atomic<bool> is_released = false;
    std::thread ender([&] {
      ends.near->join();
      EXPECT_TRUE(is_released);
    });
    // Time enough to end without waiting.
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    is_released = true;
    ends.far_driver.Release(target.stream());
    ender.join();
    EXPECT_TRUE(target.Has(1));
  }
  EXPECT_EQ(ends.Finish(), "");
}

TEST(CudaIpcTest, SlotsThatAPeerMayReadAreNotUsedAgain) {
  Ends ends(Kind::kIpc);
  ends.Connect();
  {
    Tensor source(ends.near_driver, size_t{32} << 20, ends.kind);
    source.Fill(1);
    Result sent = SendTensor(*ends.link->near, source);
    EXPECT_FALSE(Await(sent));  // into all four slots
    ends.link->near->close();
    // A second channel has slots nevertheless.
    Link second(ends.wires, *ends.near, *ends.far);
    Tensor target(ends.far_driver, size_t{32} << 20, ends.kind);
    Result again = SendTensor(*second.near, source);
    Result received = ReceiveTensor(*second.far, target);
    EXPECT_FALSE(Await(again));
    EXPECT_FALSE(Await(received));
    EXPECT_TRUE(target.Has(1));
  }
  EXPECT_EQ(ends.Finish(), "");
}

}  // namespace
}  // namespace reprise

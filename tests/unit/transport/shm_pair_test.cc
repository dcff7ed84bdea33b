// The transport shm without TensorPipe's core on top: between our own ends, and
// with TensorPipe's in both roles.

#include <chrono>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/transport/shm_ends.h"

namespace reprise::testing {
namespace {

using ::testing::HasSubstr;

struct Pairing {
  bool is_server_ours;
  bool is_client_ours;
};

class ShmPairTest : public ShmTest,
                    public ::testing::WithParamInterface<Pairing> {
 protected:
  void SetUp() override {
    Start(GetParam().is_server_ours, GetParam().is_client_ours);
  }
  // Both ways, with whose end it is that writes.
  template <typename Do>
  void BothWays(const Do& action) {
    action(*near_, *far_);
    action(*far_, *near_);
  }
};

INSTANTIATE_TEST_SUITE_P(
    Pairs, ShmPairTest,
    ::testing::Values(Pairing{true, true}, Pairing{true, false},
                      Pairing{false, true}),
    [](const ::testing::TestParamInfo<Pairing>& info) {
      const auto name = [](bool is_ours) { return is_ours ? "Ours" : "Stock"; };
      return absl::StrCat(name(info.param.is_client_ours), "To",
                          name(info.param.is_server_ours));
    });

TEST_P(ShmPairTest, TheDomainIsTheSame) {
  EXPECT_NE(server_->domainDescriptor(), "");
  EXPECT_EQ(server_->domainDescriptor(), client_->domainDescriptor());
  EXPECT_TRUE(server_->canCommunicateWithRemote(client_->domainDescriptor()));
}

TEST_P(ShmPairTest, FramesComeInTheirOrderBothWays) {
  Connect();
  std::vector<std::string> frames;
  for (const size_t size :
       {1, 0, 64, 4095, 4096, 70'000, 3'000'001, 2, 0, 2 << 20, 16 << 20, 5}) {
    frames.push_back(Pattern(size));
  }
  BothWays([&](Connection& from, Connection& to) {
    std::deque<std::future<std::string>> written;
    std::deque<std::future<Outcome>> read;
    std::deque<std::string> places;
    for (const std::string& frame : frames) {
      written.push_back(Write(from, frame));
    }
    for (const std::string& frame : frames) {
      read.push_back(Read(to, places.emplace_back(frame.size(), '?')));
    }
    for (size_t i = 0; i < frames.size(); ++i) {
      const Outcome outcome = read[i].get();
      EXPECT_EQ(outcome.error, "");
      EXPECT_TRUE(outcome.bytes == frames[i]) << i;
      EXPECT_EQ(written[i].get(), "");
    }
  });
}

TEST_P(ShmPairTest, FramesOfAnyLengthAreRead) {
  Connect();
  BothWays([&](Connection& from, Connection& to) {
    for (const size_t size : {1, 3, 5000, 300'000, 16 << 20}) {
      const std::string frame = Pattern(size);
      std::future<std::string> written = Write(from, frame);
      std::promise<std::string> read;
      to.read([&](const Error& error, const void* bytes, size_t length) {
        EXPECT_FALSE(error) << error.what();
        read.set_value({static_cast<const char*>(bytes), length});
      });
      EXPECT_TRUE(read.get_future().get() == frame) << size;
      EXPECT_EQ(written.get(), "");
    }
  });
}

TEST_P(ShmPairTest, ObjectsComeAmongFrames) {
  Connect();
  BothWays([&](Connection& from, Connection& to) {
    for (const size_t size : {0, 100, 2'000'000}) {
      Object object;
      object.getObject().metadata = Pattern(size);
      std::future<std::string> written = Write(from, object);
      const std::string frame = "after it";
      std::future<std::string> after = Write(from, frame);
      Object came;
      EXPECT_EQ(Read(to, came).get(), "");
      EXPECT_TRUE(came.getObject().metadata == object.getObject().metadata);
      std::string place(frame.size(), '?');
      EXPECT_EQ(Read(to, place).get().bytes, frame);
      EXPECT_EQ(written.get(), "");
      EXPECT_EQ(after.get(), "");
    }
  });
}

TEST_P(ShmPairTest, EmptyFramesMayHaveNoMemory) {
  Connect();
  BothWays([](Connection& from, Connection& to) { PassNothing(from, to); });
}

// Each read is posted in the callback of the last.
TEST_P(ShmPairTest, AllThatWasWrittenBeforeTheCloseArrives) {
  constexpr int kFrames = 1000;
  for (int round = 0; round < 10; ++round) {
    Connect();
    std::string place(4, '?');
    std::future<std::string> met = Write(*far_, "meet");
    EXPECT_EQ(Read(*near_, place).get().bytes, "meet");
    std::vector<std::string> frames;
    for (int i = 0; i < kFrames; ++i) frames.push_back(absl::StrCat(i));
    auto came = std::make_shared<std::vector<std::string>>();
    std::promise<std::string> ended;
    std::function<void()> read = [&, came] {
      far_->read([&, came](const Error& error, const void* bytes, size_t size) {
        if (error) return ended.set_value(TextOf(error));
        came->emplace_back(static_cast<const char*>(bytes), size);
        read();
      });
    };
    read();
    std::vector<std::future<std::string>> written;
    for (const std::string& frame : frames) {
      written.push_back(Write(*near_, frame));
    }
    near_->close();
    const std::string error = ended.get_future().get();
    EXPECT_TRUE(error.find("EOF") != error.npos ||
                error.find("eof") != error.npos)
        << error;
    EXPECT_EQ(came->size(), frames.size());
    EXPECT_TRUE(*came == frames);
    for (auto& one : written) EXPECT_EQ(one.get(), "");
  }
}

TEST_P(ShmPairTest, AStreamOfFramesIsSlowedDownByItsReader) {
  Connect();
  const std::string frame(1 << 20, 'x');
  std::deque<std::future<std::string>> written;
  for (int i = 0; i < 20; ++i) written.push_back(Write(*near_, frame));
  EXPECT_NE(written.back().wait_for(std::chrono::milliseconds(20)),
            std::future_status::ready);
  for (int i = 0; i < 20; ++i) {
    std::string place(frame.size(), '?');
    EXPECT_TRUE(Read(*far_, place).get().bytes == frame);
  }
  for (auto& one : written) EXPECT_EQ(one.get(), "");
}

TEST_P(ShmPairTest, ManyConnectionsAndNoDescriptorIsLeft) {
  const int before = CountDescriptors();
  for (int round = 0; round < 3; ++round) {
    std::vector<std::shared_ptr<Connection>> all;
    for (int i = 0; i < 30; ++i) {
      Connect();
      all.push_back(near_);
      all.push_back(far_);
      std::string place(5, '?');
      std::future<std::string> written = Write(*near_, "hello");
      EXPECT_EQ(Read(*far_, place).get().bytes, "hello");
      EXPECT_EQ(written.get(), "");
    }
    near_ = far_ = nullptr;
  }
  // Those of the queues stay a second.
  EXPECT_TRUE(Await([&] { return CountDescriptors() == before; }))
      << CountDescriptors() - before;
}

TEST_P(ShmPairTest, WhatWaitsEndsWithItsConnection) {
  Connect();
  std::string place(4, '?');
  std::future<Outcome> read = Read(*near_, place);
  near_->close();
  EXPECT_NE(read.get().error, "");
  EXPECT_NE(Read(*near_, place).get().error, "");
  EXPECT_NE(Write(*near_, place).get(), "");
  EXPECT_NE(Read(*far_, place).get().error, "");
}

TEST_P(ShmPairTest, AContextThatEndsEndsWhatItHas) {
  Connect();
  std::string place(4, '?');
  std::future<Outcome> read = Read(*far_, place);
  std::future<Accepted> accepted = testing::Accept(*listener_);
  server_->join();
  EXPECT_THAT(read.get().error, HasSubstr("closed"));
  EXPECT_THAT(accepted.get().error, HasSubstr("closed"));
  const auto late = server_->connect("nobody");
  EXPECT_THAT(Read(*late, place).get().error, HasSubstr("closed"));
}

}  // namespace
}  // namespace reprise::testing

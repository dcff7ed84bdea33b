#include "agent/transport/uv/first_frames.h"

#include <cstdint>
#include <random>
#include <string>

#include "gtest/gtest.h"
#include "tests/unit/transport/greetings.h"

namespace reprise {
namespace {

using testing::BrochureAnswerFrame;
using testing::BrochureFrame;
using testing::Frame;
using testing::LaneHelloFrame;
using testing::PipeHelloFrame;
using testing::RequestedHelloFrame;

bool IsGood(const std::string& bytes, Callers callers = Callers::kPipes) {
  return CheckCaller(bytes, callers).kind == FramesVerdict::kGood;
}
bool IsWrong(const std::string& bytes, Callers callers = Callers::kPipes) {
  return CheckCaller(bytes, callers).kind == FramesVerdict::kWrong;
}

TEST(FirstFramesTest, WhatTensorPipeSaysIsGood) {
  const std::string pipe = PipeHelloFrame("w0") + BrochureFrame();
  EXPECT_TRUE(IsGood(pipe));
  EXPECT_TRUE(IsGood(pipe + "and what follows"));
  EXPECT_EQ(CheckCaller(pipe + "!", Callers::kPipes).size, pipe.size());
  EXPECT_TRUE(IsGood(PipeHelloFrame("") + BrochureFrame()));
  EXPECT_TRUE(IsGood(PipeHelloFrame(std::string(5000, 'n')) + BrochureFrame()));
  for (const uint64_t id : {uint64_t{0}, uint64_t{200}, ~uint64_t{0}}) {
    EXPECT_TRUE(IsGood(RequestedHelloFrame(id)));
    EXPECT_TRUE(IsGood(LaneHelloFrame(id), Callers::kLanes));
  }
}

TEST(FirstFramesTest, APartAsksForMore) {
  const std::string whole = PipeHelloFrame("w0") + BrochureFrame();
  for (size_t size = 0; size < whole.size(); ++size) {
    const FramesVerdict verdict =
        CheckCaller(whole.substr(0, size), Callers::kPipes);
    EXPECT_EQ(verdict.kind, FramesVerdict::kMore) << size;
    EXPECT_GT(verdict.size, size);
    EXPECT_LE(verdict.size, whole.size());
  }
}

TEST(FirstFramesTest, OthersAreWrong) {
  EXPECT_TRUE(IsWrong("GET / HTTP/1.1\r\n\r\n"));
  EXPECT_TRUE(IsWrong(std::string(64, '\0')));
  EXPECT_TRUE(IsWrong(std::string(64, '\xff')));
  EXPECT_TRUE(IsWrong(Frame("x")));
  EXPECT_TRUE(IsWrong(Frame(std::string(kLongestHello + 1, '\0'))));
  EXPECT_TRUE(IsWrong(Frame(std::string(100, '\0'))));
  // More or less in the frame than it takes.
  const std::string body = RequestedHelloFrame(7).substr(kFrameHeader);
  EXPECT_TRUE(IsWrong(Frame(body + "!")));
  for (size_t size = 0; size < body.size(); ++size) {
    EXPECT_TRUE(IsWrong(Frame(body.substr(0, size)))) << size;
  }
  // A string that claims to go on beyond its frame.
  std::string name = PipeHelloFrame("name").substr(kFrameHeader);
  name[name.size() - 5] = '\x7f';
  EXPECT_TRUE(IsWrong(Frame(name) + BrochureFrame()));
}

// The listener would throw for want of a transport.
TEST(FirstFramesTest, ABrochureOffersUv) {
  EXPECT_TRUE(IsWrong(PipeHelloFrame("w0") + BrochureFrame({{"shm", "uv:*"}})));
  EXPECT_TRUE(IsWrong(PipeHelloFrame("w0") + BrochureFrame({{"uv", "other"}})));
  EXPECT_TRUE(IsWrong(PipeHelloFrame("w0") + BrochureAnswerFrame()));
}

TEST(FirstFramesTest, LanesAndPipesHaveTheirOwnCallers) {
  EXPECT_TRUE(IsWrong(PipeHelloFrame("w0") + BrochureFrame(), Callers::kLanes));
}

// AddressSanitizer looks on.
TEST(FirstFramesTest, NoBytesAreTooOdd) {
  std::mt19937 random(17);
  const std::string whole = PipeHelloFrame("w0") + BrochureFrame();
  const std::string answer = BrochureAnswerFrame();
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = i % 2 == 0 ? whole : answer;
    for (int flips = 1 + i % 4; flips-- > 0;) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    CheckCaller(bytes, Callers::kPipes);
    CheckCaller(bytes, Callers::kLanes);
  }
}

}  // namespace
}  // namespace reprise

// The channels cma: what is reported as good is what was sent, whoever is at
// the other end, and whatever ends when.

#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "agent/transport/cma/context.h"
#include "agent/transport/cma/validity.h"
#include "agent/transport/cma/wire.h"
#include "gtest/gtest.h"
#include "tensorpipe/channel/cma/factory.h"
#include "tensorpipe/common/nop.h"
#include "tests/unit/transport/cma_testing.h"

namespace reprise {
namespace {

using tensorpipe::Error;
using ContextPtr = std::shared_ptr<tensorpipe::channel::Context>;

enum class Pairing { kOwn, kToTensorPipe, kFromTensorPipe, kCompatible };

struct Ends {
  ContextPtr sender;
  ContextPtr receiver;
};

Ends MakeEnds(Pairing pairing) {
  const auto ours = [](CmaProtocol protocol) {
    return MakeCmaContext(protocol);
  };
  switch (pairing) {
    case Pairing::kOwn:
      return {ours(CmaProtocol::kOwn), ours(CmaProtocol::kOwn)};
    case Pairing::kToTensorPipe:
      return {ours(CmaProtocol::kStock), tensorpipe::channel::cma::create()};
    case Pairing::kFromTensorPipe:
      return {tensorpipe::channel::cma::create(), ours(CmaProtocol::kStock)};
    case Pairing::kCompatible:
      return {ours(CmaProtocol::kStock), ours(CmaProtocol::kStock)};
  }
  return {};
}

class CmaChannelTest : public testing::TestWithParam<Pairing> {
 protected:
  void SetUp() override {
    ends_ = MakeEnds(GetParam());
    if (!ends_.sender->isViable()) GTEST_SKIP() << "cma does not work here";
  }
  void TearDown() override {
    ends_.sender->join();
    ends_.receiver->join();
  }

  Wires wires_;
  Ends ends_;
};

TEST_P(CmaChannelTest, TensorsOfAllSizesComeInTheirOrder) {
  const std::vector<size_t> sizes = {1,       0,       7,
                                     4096,    4097,    size_t{1} << 20,
                                     0,       3,       (size_t{4} << 20) + 1,
                                     9 << 20, 1 << 16, 5};
  Link link(wires_, *ends_.sender, *ends_.receiver);
  for (const bool backwards : {false, true}) {
    // Of TensorPipe's end, too, what we sent is read and the other way round.
    auto& from = backwards ? *link.far : *link.near;
    auto& to = backwards ? *link.near : *link.far;
    std::vector<std::vector<char>> sources;
    std::vector<std::vector<char>> targets;
    std::vector<Result> results;
    for (size_t i = 0; i < sizes.size(); ++i) {
      auto& source = sources.emplace_back(sizes[i]);
      for (size_t at = 0; at < source.size(); ++at) {
        source[at] = static_cast<char>(i + (at >> 12) + at * 31);
      }
      targets.emplace_back(sizes[i]);
    }
    for (size_t i = 0; i < sizes.size(); ++i) {
      results.push_back(Send(from, sources[i].data(), sizes[i]));
      results.push_back(Receive(to, targets[i].data(), sizes[i]));
    }
    for (Result& result : results) {
      const Error error = Await(result);
      EXPECT_FALSE(error) << error.what();
    }
    EXPECT_TRUE(sources == targets);
  }
}

TEST_P(CmaChannelTest, MoreThanIsStagedAtATimeComesThrough) {
  constexpr size_t kBytes = size_t{16} << 20;
  Link link(wires_, *ends_.sender, *ends_.receiver);
  std::vector<std::vector<char>> sources;
  std::vector<std::vector<char>> targets(5, std::vector<char>(kBytes));
  std::vector<Result> results;
  for (int i = 0; i < 5; ++i) {
    sources.emplace_back(kBytes, static_cast<char>('a' + i));
    results.push_back(Send(*link.near, sources[i].data(), kBytes));
  }
  for (int i = 0; i < 5; ++i) {
    results.push_back(Receive(*link.far, targets[i].data(), kBytes));
  }
  for (Result& result : results) {
    const Error error = Await(result);
    EXPECT_FALSE(error) << error.what();
  }
  EXPECT_TRUE(sources == targets);
}

TEST_P(CmaChannelTest, WhatIsCutInMidFlightIsRightOrRefused) {
  std::mt19937 random(1);
  Tally all;
  for (int round = 0; round < 120; ++round) {
    const Tally tally =
        CutInMidFlight(wires_, *ends_.sender, *ends_.receiver, random);
    all.right += tally.right;
    all.wrong += tally.wrong;
    all.refused += tally.refused;
  }
  std::printf("right %d, wrong %d, refused %d\n", all.right, all.wrong,
              all.refused);
  EXPECT_EQ(all.wrong, 0);
  EXPECT_GT(all.refused, 0);
}

TEST_P(CmaChannelTest, AContextThatIsClosedEndsAllOperations) {
  constexpr size_t kBytes = size_t{32} << 20;
  Link link(wires_, *ends_.sender, *ends_.receiver);
  std::vector<char> source(kBytes, 'A');
  std::vector<char> target(kBytes);
  std::vector<Result> results;
  for (int i = 0; i < 3; ++i) {
    results.push_back(Send(*link.near, source.data(), kBytes));
    results.push_back(Receive(*link.far, target.data(), kBytes));
  }
  ends_.receiver->join();
  ends_.sender->join();
  results.push_back(Send(*link.near, source.data(), kBytes));
  results.push_back(Receive(*link.far, target.data(), kBytes));
  for (Result& result : results) {
    EXPECT_FALSE(Await(result).isOfType<tensorpipe::SystemError>());
  }
}

std::string NameOf(const testing::TestParamInfo<Pairing>& info) {
  switch (info.param) {
    case Pairing::kOwn:
      return "Own";
    case Pairing::kToTensorPipe:
      return "ToTensorPipe";
    case Pairing::kFromTensorPipe:
      return "FromTensorPipe";
    case Pairing::kCompatible:
      return "Compatible";
  }
  return "";
}

INSTANTIATE_TEST_SUITE_P(All, CmaChannelTest,
                         testing::Values(Pairing::kOwn, Pairing::kToTensorPipe,
                                         Pairing::kFromTensorPipe,
                                         Pairing::kCompatible),
                         NameOf);

// Receives over a channel whose other end the test plays.
class LyingPeerTest : public testing::Test {
 protected:
  // The error, or "" and the bytes were taken for good.
  static std::string ReceiveFrom(const Connections& peer,
                                 tensorpipe::channel::Channel& channel) {
    char target[8] = "nothing";
    Result received = Receive(channel, target, sizeof(target));
    const Error error = Await(received);
    peer[0]->close();
    EXPECT_FALSE(error.isOfType<tensorpipe::SystemError>()) << error.what();
    return error ? error.what() : "";
  }

  Wires wires_;
};

TEST_F(LyingPeerTest, TensorPipesOwnIsBelievedOnlyOfItsOwnProcess) {
  const ContextPtr context = MakeCmaContext(CmaProtocol::kStock);
  if (!context->isViable()) GTEST_SKIP();
  for (const bool is_ours : {true, false}) {
    auto [peer, ends] = wires_.Connect();
    const auto channel = context->createChannel(
        std::move(ends), tensorpipe::channel::Endpoint::kListen);
    char secret[8] = "secret!";
    const auto descriptor =
        std::make_shared<tensorpipe::NopHolder<StockDescriptor>>();
    // The peer of these connections is this process, and no other.
    descriptor->getObject().pid =
        static_cast<uint32_t>(is_ours ? getpid() : getppid());
    descriptor->getObject().ptr = reinterpret_cast<uint64_t>(secret);
    peer[0]->write(*descriptor, [descriptor](const Error&) {});
    const std::string error = ReceiveFrom(peer, *channel);
    if (is_ours) {
      EXPECT_EQ(error, "");
    } else {
      EXPECT_TRUE(absl::StrContains(error, "cannot be shown")) << error;
    }
  }
  context->join();
}

TEST_F(LyingPeerTest, ADescriptorThatIsNoneFailsTheChannel) {
  const ContextPtr context = MakeCmaContext(CmaProtocol::kStock);
  if (!context->isViable()) GTEST_SKIP();
  auto [peer, ends] = wires_.Connect();
  const auto channel = context->createChannel(
      std::move(ends), tensorpipe::channel::Endpoint::kListen);
  static constexpr char kHalf[] = {'\xb9', 2, '\x82'};
  peer[0]->write(kHalf, sizeof(kHalf), [](const Error&) {});
  EXPECT_NE(ReceiveFrom(peer, *channel), "");
  context->join();
}

TEST_F(LyingPeerTest, OfOurOwnAWordThatDoesNotKnowTheSecretIsRefused) {
  const ContextPtr context = MakeCmaContext(CmaProtocol::kOwn);
  if (!context->isViable()) GTEST_SKIP();
  for (const bool knows : {true, false}) {
    auto [peer, ends] = wires_.Connect();
    const auto channel = context->createChannel(
        std::move(ends), tensorpipe::channel::Endpoint::kListen);
    const auto hello = std::make_shared<OwnHello>();
    std::promise<Error> greeted;
    peer[1]->read(hello.get(), sizeof(*hello),
                  [&](const Error& error, const void*, size_t) {
                    greeted.set_value(error);
                  });
    Result greeting = greeted.get_future();
    ASSERT_FALSE(Await(greeting));
    EXPECT_EQ(hello->version, OwnHello::kVersion);
    const char secret[8] = "secret!";
    const uint64_t word = hello->secret + (knows ? 1 : 2);
    const auto descriptor = std::make_shared<const OwnDescriptor>(OwnDescriptor{
        static_cast<uint64_t>(getpid()), reinterpret_cast<uint64_t>(secret),
        reinterpret_cast<uint64_t>(&word)});
    peer[0]->write(descriptor.get(), sizeof(*descriptor),
                   [descriptor](const Error&) {});
    const std::string error = ReceiveFrom(peer, *channel);
    if (knows) {
      EXPECT_EQ(error, "");
    } else {
      EXPECT_TRUE(absl::StrContains(error, "let go")) << error;
    }
  }
  context->join();
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// Without a thread the bytes are copied by the one that asks for them.
TEST(CmaChannelDeathTest, NeedsNoThread) {
  if (!MakeCmaContext(CmaProtocol::kOwn)->isViable()) GTEST_SKIP();
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const auto receive = [] {
    Wires wires;
    const ContextPtr context = MakeCmaContext(CmaProtocol::kOwn);
    Link link(wires, *context, *context);
    char bytes[8] = "a tenso";
    char target[8] = {};
    const ValidityWord word = ValidityWord::Make(1);  // has a page for others
    // No room for a stack.
    const rlimit none = {1 << 20, 1 << 20};
    setrlimit(RLIMIT_AS, &none);
    Result sent = Send(*link.near, bytes, sizeof(bytes));
    Result received = Receive(*link.far, target, sizeof(target));
    const bool is_received = !received.get();
    std::_Exit(is_received && std::memcmp(bytes, target, 8) == 0 ? 0 : 1);
  };
  EXPECT_EXIT(receive(), testing::ExitedWithCode(0), "cannot start a thread");
}
#endif

}  // namespace
}  // namespace reprise

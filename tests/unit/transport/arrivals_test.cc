#include "agent/transport/arrivals.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "absl/time/time.h"
#include "agent/transport/uv/tcp_arrival.h"
#include "gtest/gtest.h"

namespace reprise {
namespace {

class FakeClock final : public ArrivalClock {
 public:
  absl::Duration SinceArrival() override { return since; }
  absl::Duration since = absl::InfiniteDuration();
};

TEST(PipeArrivalsTest, NamesCarryNumbers) {
  EXPECT_EQ(PipeArrivals::NameOf("w1", 7), "w1#7");
  const auto parse = [](std::string_view name) {
    const auto [peer, number] = PipeArrivals::Parse(name);
    return std::pair(std::string(peer), number);
  };
  EXPECT_EQ(parse("w1#7"), std::pair(std::string("w1"), uint64_t{7}));
  EXPECT_EQ(parse("me_to_w1#7.ch_basic_0").second, 7u);
  // A peer's claim that looks like one.
  EXPECT_EQ(parse("a#5#12.d.tr_uv"),
            std::pair(std::string("a#5"), uint64_t{12}));
  for (const char* name :
       {"w1", "", "w1#", "w1#x", "w1#99999999999999999999"}) {
    EXPECT_EQ(parse(name), std::pair(std::string(name), uint64_t{0}));
  }
}

TEST(PipeArrivalsTest, CallersAreNumbered) {
  PipeArrivals arrivals;
  const uint64_t first = arrivals.NewPipe();
  tensorpipe::Packet hello;
  hello.Become(hello.index_of<tensorpipe::SpontaneousConnection>());
  hello.get<tensorpipe::SpontaneousConnection>()->contextName = "w2#1";
  arrivals.NumberCaller(hello);
  const std::string& name =
      hello.get<tensorpipe::SpontaneousConnection>()->contextName;
  EXPECT_EQ(PipeArrivals::Parse(name).first, "w2#1");
  EXPECT_GT(PipeArrivals::Parse(name).second, first);
  // It claims a connection that has a number.
  hello.Become(hello.index_of<tensorpipe::RequestedConnection>());
  hello.get<tensorpipe::RequestedConnection>()->registrationId = 3;
  arrivals.NumberCaller(hello);
  EXPECT_EQ(hello.get<tensorpipe::RequestedConnection>()->registrationId, 3u);
}

TEST(PipeArrivalsTest, TheLatestArrivalOfAPipeCounts) {
  PipeArrivals arrivals;
  FakeClock one;
  FakeClock two;
  FakeClock other;
  EXPECT_EQ(arrivals.Enter("me_to_w1#7.d.tr_uv", &one), 7u);
  EXPECT_EQ(arrivals.Enter("me_to_w1#7.ch_basic_0", &two), 7u);
  EXPECT_EQ(arrivals.Enter("me_to_w1#8.d.tr_uv", &other), 8u);
  EXPECT_EQ(arrivals.Enter("me.p0.d.tr_uv", &other), 0u);
  EXPECT_EQ(arrivals.SinceArrival(7), absl::InfiniteDuration());
  one.since = absl::Seconds(5);
  other.since = absl::Seconds(1);
  EXPECT_EQ(arrivals.SinceArrival(7), absl::Seconds(5));
  two.since = absl::Seconds(2);
  EXPECT_EQ(arrivals.SinceArrival(7), absl::Seconds(2));
  arrivals.Leave(&two);
  EXPECT_EQ(arrivals.SinceArrival(7), absl::Seconds(5));
  arrivals.Leave(&one);
  arrivals.Leave(&one);
  EXPECT_EQ(arrivals.SinceArrival(7), absl::InfiniteDuration());
  EXPECT_EQ(arrivals.SinceArrival(9), absl::InfiniteDuration());
  arrivals.Leave(&other);
}

TEST(PipeArrivalsTest, LanesBelongToThePipeThatTheyWereOfferedOver) {
  PipeArrivals arrivals;
  FakeClock lane;
  tensorpipe::channel::mpt::ServerHello offer;
  offer.laneAdvertisements.emplace_back();
  offer.laneAdvertisements[0].address = "127.0.0.1:5";
  offer.laneAdvertisements[0].registrationId = 2;
  arrivals.OfferLanes(7, offer);
  tensorpipe::channel::mpt::ClientHello claim;
  claim.registrationId = 2;
  arrivals.ClaimLane("127.0.0.1:6", claim, &lane);
  EXPECT_EQ(arrivals.num_connections(7), 0u);
  arrivals.ClaimLane("127.0.0.1:5", claim, &lane);
  EXPECT_EQ(arrivals.num_connections(7), 1u);
  arrivals.Leave(&lane);
}

TEST(TcpArrivalTest, OnlyBytesCount) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(bind(listener, generic, size), 0);
  ASSERT_EQ(listen(listener, 1), 0);
  ASSERT_EQ(getsockname(listener, generic, &size), 0);
  const int client = socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_EQ(connect(client, generic, size), 0);
  const int server = accept(listener, nullptr, nullptr);
  ASSERT_GE(server, 0);
  EXPECT_EQ(SinceTcpArrival(server), absl::InfiniteDuration());
  ASSERT_EQ(send(client, "x", 1, 0), 1);
  pollfd readable = {server, POLLIN, 0};
  ASSERT_EQ(poll(&readable, 1, /*timeout=*/60'000), 1);
  // Nobody has read it.
  EXPECT_LT(SinceTcpArrival(server), absl::InfiniteDuration());
  EXPECT_EQ(SinceTcpArrival(client), absl::InfiniteDuration());
  for (const int fd : {listener, client, server}) close(fd);
  EXPECT_EQ(SinceTcpArrival(-1), absl::InfiniteDuration());
}

}  // namespace
}  // namespace reprise

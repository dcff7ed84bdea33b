// A peer that greets as it should and then sends nonsense: what two agents say
// to each other goes through somebody who changes some of the bytes.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <random>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "agent/agent.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"
#include "tests/unit/agent/holding_proxy.h"

namespace reprise::testing {
namespace {

sockaddr_in Loopback(int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// Stands between whoever connects to it and `target`, one at a time.
class NoisyProxy {
 public:
  // Which bytes of the next connection are changed; `count` from there on.
  struct Noise {
    bool to_target = false;
    uint64_t offset = 0;
    uint64_t count = 0;
    uint8_t value = 0;
  };

  explicit NoisyProxy(int target) : target_(target) {
    sockaddr_in address = Loopback(0);
    socklen_t size = sizeof(address);
    EXPECT_EQ(
        bind(listener_, reinterpret_cast<const sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(listener_, 8), 0);
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { Run(); });
  }
  ~NoisyProxy() {
    stopping_ = true;
    shutdown(listener_, SHUT_RDWR);
    Break();
    thread_.join();
    close(listener_);
  }

  int port() const { return port_; }
  int64_t num_connections() const { return num_connections_; }
  int64_t num_changed() const { return num_changed_; }
  // Of the next connection; the one there is ends.
  void Set(const Noise& noise) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      next_ = noise;
    }
    Break();
  }

 private:
  struct Way {
    int from;
    int to;
    bool to_target;
    uint64_t offset = 0;
  };

  void Break() {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const int fd : ends_) {
      if (fd >= 0) shutdown(fd, SHUT_RDWR);
    }
  }
  void Run() {
    while (!stopping_) {
      const int client = accept(listener_, nullptr, nullptr);
      if (client < 0) continue;
      const int server = socket(AF_INET, SOCK_STREAM, 0);
      const sockaddr_in address = Loopback(target_);
      EXPECT_EQ(connect(server, reinterpret_cast<const sockaddr*>(&address),
                        sizeof(address)),
                0);
      {
        const std::lock_guard<std::mutex> lock(mutex_);
        ends_ = {client, server};
        noise_ = next_;
        ++num_connections_;
      }
      std::array<Way, 2> ways = {
          {{client, server, true}, {server, client, false}}};
      while (!stopping_ && Forward(ways)) {
      }
      const std::lock_guard<std::mutex> lock(mutex_);
      ends_ = {-1, -1};
      close(client);
      close(server);
    }
  }
  bool Forward(std::array<Way, 2>& ways) {
    std::array<pollfd, 2> polls = {
        {{ways[0].from, POLLIN, 0}, {ways[1].from, POLLIN, 0}}};
    if (poll(polls.data(), polls.size(), -1) < 0) return false;
    for (size_t i = 0; i < ways.size(); ++i) {
      if (polls[i].revents != 0 && !Forward(ways[i])) return false;
    }
    return true;
  }
  bool Forward(Way& way) {
    std::array<char, 4096> bytes;
    const ssize_t size = recv(way.from, bytes.data(), bytes.size(), 0);
    if (size <= 0) return false;
    for (ssize_t i = 0; i < size; ++i, ++way.offset) {
      if (way.to_target == noise_.to_target && way.offset >= noise_.offset &&
          way.offset < noise_.offset + noise_.count) {
        bytes[i] = static_cast<char>(noise_.value + i);
        ++num_changed_;
      }
    }
    return send(way.to, bytes.data(), size, MSG_NOSIGNAL) == size;
  }

  const int target_;
  const int listener_ = socket(AF_INET, SOCK_STREAM, 0);
  int port_ = 0;
  std::atomic<bool> stopping_ = false;
  std::atomic<int64_t> num_connections_ = 0;
  std::atomic<int64_t> num_changed_ = 0;
  std::mutex mutex_;
  Noise next_;
  Noise noise_;
  std::array<int, 2> ends_ = {-1, -1};
  std::thread thread_;
};

class NoiseTest : public ::testing::TestWithParam<bool> {};

TEST_P(NoiseTest, NonsenseAfterTheHelloEndsNobody) {
  const bool to_target = GetParam();
  Cluster cluster;
  cluster.Start(2, Echo(), [](AgentOptions& options) {
    options.transport.channels = {"basic"};
    // A pipe that waits for its channel's connection does not see that its peer
    // has gone until the keepalive ends it.
    options.server_bounds.connections_per_peer = 10'000;
  });
  NoisyProxy proxy(PortOfWorker(cluster, 1));
  StartCallerThrough(cluster, proxy.port());
  ASSERT_TRUE(cluster[0].Send("w1", Request("quiet")).status().ok());

  std::mt19937 random(to_target ? 71 : 72);
  for (int round = 0; round < 300; ++round) {
    NoisyProxy::Noise noise;
    noise.to_target = to_target;
    noise.offset = random() % (to_target ? 900 : 600);
    noise.count = 1 + random() % 4 * (random() % 8);
    noise.value = static_cast<uint8_t>(random());
    const int64_t connections = proxy.num_connections();
    proxy.Set(noise);
    Message request = Request("noise");
    request.tensors = {*MakeTensor(DType::kUInt8, {100})};
    // What becomes of it is as it may be: wrong bytes in a payload are a
    // reply; a length that is wrong may leave one waiting.
    CallOptions options;
    options.timeout = absl::Milliseconds(20);
    // Until the pause before the next attempt is over, calls fail at once.
    const absl::Time until = Soon();
    do {
      cluster[0].Send("w1", request, options).Wait(until);
    } while (proxy.num_connections() == connections &&
             RealRuntime().Now() < until);
  }
  EXPECT_GT(proxy.num_changed(), 100);

  proxy.Set({});
  const absl::Time until = Soon();
  while (!cluster[0].Send("w1", Request("quiet again")).status().ok()) {
    ASSERT_LT(RealRuntime().Now(), until);
    RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(1));
  }
  EXPECT_TRUE(cluster[1].Send("w0", Request("")).status().ok());
}

INSTANTIATE_TEST_SUITE_P(Ways, NoiseTest, ::testing::Bool(),
                         [](const ::testing::TestParamInfo<bool>& info) {
                           return info.param ? "ToCallee" : "ToCaller";
                         });

}  // namespace
}  // namespace reprise::testing

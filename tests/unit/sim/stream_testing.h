// Connections of the simulated transport between w0 and w1, for tests of what
// the network does to them.

#ifndef REPRISE_TESTS_UNIT_SIM_STREAM_TESTING_H_
#define REPRISE_TESTS_UNIT_SIM_STREAM_TESTING_H_

#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sim/network/network.h"
#include "tensorpipe/transport/context.h"
#include "tests/unit/sim/network_testing.h"
#include "tests/unit/transport/connections.h"

namespace reprise {

inline constexpr int64_t kMinute = 60 * kSecond;

// Without jitter.
inline NetworkOptions Exact() {
  NetworkOptions options;
  options.latency_spread_ns = 0;
  options.spike_one_in = 0;
  return options;
}

// A driver on a node of its own, which uses the transports of w0 and w1.
class StreamTest : public ::testing::Test {
 protected:
  void Drive(const std::function<void()>& body,
             const NetworkOptions& options = Exact()) {
    world_ =
        std::make_unique<NetworkWorld>(With(Policy::kCooperative), options);
    world_->world().Start(9, "driver", [&] {
      client_ = MakeContext(0);
      server_ = MakeContext(1);
      listener_ = server_->listen("");
      body();
      Forget();
    });
    EXPECT_EQ(world_->Run(), reprise::Outcome::kFinished)
        << ::testing::PrintToString((*world_).world()->DescribeFibers());
    EXPECT_EQ(network().num_open_endpoints(), 0);
  }
  void TearDown() override {
    Forget();
    world_ = nullptr;
  }
  // Of nodes that have died, nothing is destroyed.
  void Forget() {
    if (dead_rank_ >= 0) {
      auto* const kept =
          dead_rank_ == 0
              ? new std::vector<std::shared_ptr<void>>{client_, near_}
              : new std::vector<std::shared_ptr<void>>{server_, listener_,
                                                       far_};
      static_cast<void>(kept);
    }
    dead_rank_ = -1;
    near_ = far_ = nullptr;
    listener_ = nullptr;
    client_ = server_ = nullptr;
  }

  TestWorld& world() { return world_->world(); }
  Network& network() { return world_->network(); }
  int64_t now_ns() { return world().now_ns(); }
  void Sleep(int64_t ns) {
    world().runtime(9).SleepUntil(world().After(absl::Nanoseconds(ns)));
  }
  std::shared_ptr<tensorpipe::transport::Context> MakeContext(int32_t rank) {
    return network()
        .MakeTransports(world().node(rank), TransportOptions())
        .transports.front()
        .context;
  }
  void Connect() {
    auto accepted = testing::Accept(*listener_);
    near_ = client_->connect(listener_->addr());
    far_ = accepted.get().connection;
  }
  // Kills a worker, with the driver on another node.
  void Kill(NodeDeath death, int32_t rank = 1) {
    dead_rank_ = rank;
    world()->Crash(world().node(rank), death);
  }
  void Restart() { network().NodeIsUp(world().Restart(1)); }

  std::unique_ptr<NetworkWorld> world_;
  int32_t dead_rank_ = -1;  // whose first incarnation has died
  std::shared_ptr<tensorpipe::transport::Context> client_;
  std::shared_ptr<tensorpipe::transport::Context> server_;
  std::shared_ptr<tensorpipe::transport::Listener> listener_;
  std::shared_ptr<tensorpipe::transport::Connection> near_;  // w0's
  std::shared_ptr<tensorpipe::transport::Connection> far_;   // w1's
};

}  // namespace reprise

#endif  // REPRISE_TESTS_UNIT_SIM_STREAM_TESTING_H_

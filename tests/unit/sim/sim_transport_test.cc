// The simulated transport without TensorPipe's core on top.

#include <memory>

#include "gtest/gtest.h"
#include "sim/network/network.h"
#include "tensorpipe/transport/context.h"
#include "tests/unit/sim/network_testing.h"
#include "tests/unit/transport/connections.h"

namespace reprise {
namespace {

TEST(SimTransportTest, EmptyFramesMayHaveNoMemory) {
  NetworkWorld world;
  world.world().Start(0, "both ends", [&] {
    const std::shared_ptr<tensorpipe::transport::Context> context =
        world.network()
            .MakeTransports(world.world().node(0), TransportOptions())
            .transports.front()
            .context;
    const auto listener = context->listen("");
    const auto near = context->connect(listener->addr());
    const auto far = testing::Accept(*listener).get().connection;
    testing::PassNothing(*near, *far);
    testing::PassNothing(*far, *near);
  });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
}

}  // namespace
}  // namespace reprise

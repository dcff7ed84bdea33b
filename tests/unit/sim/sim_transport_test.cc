// The simulated transport without TensorPipe's core on top.

#include <cstddef>
#include <functional>
#include <future>
#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sim/network/network.h"
#include "tensorpipe/transport/connection.h"
#include "tensorpipe/transport/context.h"
#include "tests/unit/sim/network_testing.h"
#include "tests/unit/transport/connections.h"

namespace reprise {
namespace {

using tensorpipe::transport::Connection;

// Runs `body` in a world, with both ends of a connection of one context.
void OverAConnection(
    std::function<void(Connection& near, Connection& far)> body) {
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
    body(*near, *far);
  });
  EXPECT_EQ(world.Run(), Outcome::kFinished);
}

TEST(SimTransportTest, EmptyFramesMayHaveNoMemory) {
  OverAConnection([](Connection& near, Connection& far) {
    testing::PassNothing(near, far);
    testing::PassNothing(far, near);
  });
}

class Unwritable : public tensorpipe::AbstractNopHolder {
 public:
  size_t getSize() const override { return 1; }
  nop::Status<void> write(tensorpipe::NopWriter&) const override {
    return nop::ErrorStatus::WriteLimitReached;
  }
  nop::Status<void> read(tensorpipe::NopReader&) override { return {}; }
};

TEST(SimTransportTest, AWriteThatFailsDoesNotCallBackInline) {
  OverAConnection([](Connection& near, Connection& /*far*/) {
    bool has_returned = false;
    std::promise<std::string> written;
    near.write(Unwritable(), [&](const tensorpipe::Error& error) {
      EXPECT_TRUE(has_returned);
      written.set_value(testing::TextOf(error));
    });
    has_returned = true;
    EXPECT_THAT(written.get_future().get(), ::testing::StartsWith("EPROTO"));
  });
}

}  // namespace
}  // namespace reprise

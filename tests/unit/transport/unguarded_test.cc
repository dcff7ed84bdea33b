// Linked so that TensorPipe gets past the guard: this must not go unnoticed.

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "agent/transport/transports.h"
#include "agent/transport/uv_guard.h"
#include "gtest/gtest.h"

namespace reprise {
namespace {

TEST(UnguardedTest, IsNoticed) {
  EXPECT_TRUE(absl::IsFailedPrecondition(UvGuardInPlace()));
  for (const TransportProbe& probe : ProbeRealTransports("127.0.0.1")) {
    EXPECT_EQ(absl::StrContains(probe.detail, "strangers can end this process"),
              probe.name == "uv")
        << probe.name << ": " << probe.detail;
  }
}

}  // namespace
}  // namespace reprise

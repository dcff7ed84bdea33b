// Messages beyond the limits of the end that receives them fail their own call,
// by an error that no retry mends, and no other call.

#include <string>

#include "agent/agent.h"
#include "agent/call_error.h"
#include "agent/wire/message_codec.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"

namespace reprise::testing {
namespace {

using ::testing::HasSubstr;

constexpr size_t kLimit = 1000;
constexpr char kReason[] =
    "incoming message too large: payload bytes 5000, limit 1000";

// Once a retry begins its pause, the call does not end while a test lasts.
const RetryOptions kRetry = {.max_retries = 3,
                             .retry_duration = absl::Hours(1)};

absl::Status StatusOf(const Future& call) {
  EXPECT_TRUE(call.Wait(Soon()));
  return call.status();
}

// Answers "slow" once the gate is open, and "large" with more than the limit.
RequestHandler Handler(Gate& gate) {
  return Blocking(
      [&gate](Message request, const RequestInfo&) -> absl::StatusOr<Message> {
        if (request.payload == "slow") gate.Wait();
        if (request.payload == "large") request.payload.assign(5000, 'x');
        request.type = MessageType::kScriptRet;
        return request;
      });
}

TEST(LimitsTest, ARequestThatIsTooLargeFailsAlone) {
  Gate gate;
  Cluster cluster;
  cluster.Start(2, Handler(gate), [](AgentOptions& options) {
    if (options.id == 1) options.max_payload_bytes = kLimit;
  });
  const Future pending = cluster[0].Send("w1", Request("slow"));
  const absl::Status status = StatusOf(cluster[0].SendWithRetries(
      "w1", Request(std::string(5000, 'x')), {}, kRetry));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr(kReason));
  gate.Open();
  EXPECT_EQ(StatusOf(pending), absl::OkStatus());
  EXPECT_EQ(cluster[0].GetMetrics()["agent.reconnects"], 0);
}

TEST(LimitsTest, AReplyThatIsTooLargeFailsAlone) {
  Gate gate;
  Cluster cluster;
  cluster.Start(2, Handler(gate), [](AgentOptions& options) {
    if (options.id == 0) options.max_payload_bytes = kLimit;
  });
  const Future pending = cluster[0].Send("w1", Request("slow"));
  const absl::Status status =
      StatusOf(cluster[0].SendWithRetries("w1", Request("large"), {}, kRetry));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr(kReason));
  gate.Open();
  EXPECT_EQ(StatusOf(pending), absl::OkStatus());
  EXPECT_EQ(cluster[0].GetMetrics()["agent.reconnects"], 0);
}

TEST(LimitsTest, OnlyWhatARetryMayMendIsRetriable) {
  EXPECT_FALSE(RetryMayHelp(TooLargeError("a message")));
  EXPECT_TRUE(RetryMayHelp(absl::ResourceExhaustedError("too many calls")));
  EXPECT_TRUE(RetryMayHelp(absl::UnavailableError("reset")));
  EXPECT_FALSE(RetryMayHelp(absl::OkStatus()));
}

}  // namespace
}  // namespace reprise::testing

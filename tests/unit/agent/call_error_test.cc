// Who failed, and whether a retry may help: as a payload of a status, and of
// the calls of an agent.

#include "agent/call_error.h"

#include <optional>
#include <string>

#include "agent/agent.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"

namespace reprise::testing {
namespace {

constexpr auto kSources = {
    CallErrorSource::kCaller, CallErrorSource::kTransport,
    CallErrorSource::kRemoteAgent, CallErrorSource::kRemoteHandler,
    CallErrorSource::kDeadline};

TEST(CallErrorTest, EveryDetailComesBack) {
  for (const CallErrorSource source : kSources) {
    for (const bool ran : {false, true}) {
      for (const bool retry : {false, true}) {
        const CallError error{source, ran, retry};
        const absl::Status status =
            WithCallError(absl::UnknownError("why"), error);
        EXPECT_EQ(CallErrorOf(status), error) << status;
        EXPECT_EQ(status.message(), "why");
        EXPECT_EQ(RetryMayHelp(status), retry);
      }
    }
  }
}

TEST(CallErrorTest, OnlyTransientCodesAreRetriedAndNeverTheHandlers) {
  using Code = absl::StatusCode;
  for (int i = 1; i <= 16; ++i) {
    const auto code = static_cast<Code>(i);
    const bool transient = code == Code::kUnavailable ||
                           code == Code::kDeadlineExceeded ||
                           code == Code::kResourceExhausted;
    const absl::Status plain(code, "why");
    EXPECT_EQ(RetryMayHelp(plain), transient) << plain;
    for (const CallErrorSource source : kSources) {
      EXPECT_EQ(RetryMayHelp(WithCallError(plain, source)),
                transient && source != CallErrorSource::kRemoteHandler)
          << plain << " " << ToString(source);
    }
  }
}

TEST(CallErrorTest, TheFirstDetailStays) {
  const absl::Status status = WithCallError(
      WithCallError(absl::UnavailableError(""), CallErrorSource::kTransport),
      CallErrorSource::kCaller);
  EXPECT_EQ(CallErrorOf(status)->source, CallErrorSource::kTransport);
  EXPECT_EQ(CallErrorOf(CopyCallError(status, absl::UnknownError("x"))),
            CallErrorOf(status));
  EXPECT_FALSE(CallErrorOf(absl::OkStatus()).has_value());
  EXPECT_FALSE(CallErrorOf(absl::UnknownError("")).has_value());
  EXPECT_TRUE(WithCallError(absl::OkStatus(), CallErrorSource::kCaller).ok());
}

TEST(CallErrorTest, EveryCallThatFailsNamesWhoFailed) {
  const auto error = [](const Future& call) {
    EXPECT_TRUE(call.Wait(Soon()));
    return CallErrorOf(call.status());
  };
  Gate gate;
  Cluster cluster;
  cluster.Start(2, [&](Message request, const RequestInfo&, Reply reply) {
    if (request.payload == "wait") gate.Wait();
    reply(absl::UnavailableError("of the handler"));
  });
  using Source = CallErrorSource;
  Agent& agent = cluster[0];
  EXPECT_EQ(error(agent.Send("nobody", Request("x"))),
            (CallError{Source::kCaller, false, false}));
  EXPECT_EQ(error(agent.Send("w1", Message{MessageType::kScriptRet, "", {}})),
            (CallError{Source::kCaller, false, false}));
  Message large = Request("x");
  large.tensors.resize(65537);
  EXPECT_EQ(error(agent.Send("w1", std::move(large))),
            (CallError{Source::kCaller, false, false}));
  EXPECT_EQ(error(agent.Send("w1", Request("x"))),
            (CallError{Source::kRemoteHandler, true, false}));
  EXPECT_EQ(error(agent.SendWithRetries("w1", Request("x"))),
            (CallError{Source::kRemoteHandler, true, false}));
  EXPECT_EQ(error(agent.Send("w1", Request("wait"),
                             {.timeout = absl::Milliseconds(5)})),
            (CallError{Source::kDeadline, true, true}));
  // Wrapped into the text of the retries.
  EXPECT_EQ(error(agent.SendWithRetries(
                "w1", Request("wait"), {.timeout = absl::Milliseconds(5)},
                {.max_retries = 1, .retry_duration = absl::ZeroDuration()})),
            (CallError{Source::kDeadline, true, true}));
  const Future cancelled = agent.Send("w1", Request("wait"));
  cancelled.Cancel();
  EXPECT_EQ(error(cancelled), (CallError{Source::kCaller, true, false}));
  const Future broken = agent.Send("w1", Request("wait"));
  gate.Open();
  cluster.Stop(1);
  // Answered just before, or broken.
  const std::optional<CallError> last = error(agent.Send("w1", Request("x")));
  EXPECT_EQ(last->source, Source::kTransport);
  EXPECT_TRUE(last->retry_may_help);
  const Future pending = agent.Send("w1", Request("x"));
  EXPECT_TRUE(agent.Shutdown(Soon()).ok());
  EXPECT_TRUE(error(pending).has_value());
  EXPECT_EQ(error(agent.Send("w1", Request("x"))),
            (CallError{Source::kCaller, false, false}));
}

}  // namespace
}  // namespace reprise::testing

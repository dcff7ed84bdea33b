// Who failed, and whether a retry may help: as a payload of a status, and of
// the calls of an agent.

#include "agent/call_error.h"

#include <optional>
#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "agent/agent.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"
#include "tests/unit/agent/recorder.h"

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

TEST(CallErrorTest, ALabelEndsTheTextOnceAndLeavesTheRest) {
  absl::Status status = WithCallError(absl::UnavailableError("gone"),
                                      CallErrorSource::kTransport);
  status.SetPayload("other", absl::Cord("x"));
  const absl::Status labelled = WithLabel(WithLabel(status, "push"), "push");
  EXPECT_EQ(labelled.message(), "gone (call push)");
  EXPECT_EQ(labelled.code(), status.code());
  EXPECT_EQ(CallErrorOf(labelled), CallErrorOf(status));
  EXPECT_EQ(labelled.GetPayload("other"), absl::Cord("x"));
  EXPECT_EQ(WithLabel(status, ""), status);
  EXPECT_TRUE(WithLabel(absl::OkStatus(), "push").ok());
}

TEST(CallErrorTest, EveryErrorOfACallWithALabelHasIt) {
  Recorder recorder;
  Gate gate;
  Cluster cluster;
  cluster.set_observer(&recorder);
  cluster.Start(2, [&](Message request, const RequestInfo&, Reply reply) {
    if (request.payload == "wait") gate.Wait();
    reply(absl::NotFoundError("no such row"));
  });
  Agent& agent = cluster[0];
  const CallOptions push{.timeout = absl::Milliseconds(5), .label = "push"};
  const RetryOptions once{.max_retries = 1,
                          .retry_duration = absl::ZeroDuration()};
  const auto ends_so = [](const Future& call) {
    const absl::Status status = call.status();
    return absl::EndsWith(status.message(), " (call push)") &&
           !absl::EndsWith(status.message(), " (call push) (call push)");
  };
  const Future remote = agent.Send("w1", Request("x"), {.label = "push"});
  EXPECT_TRUE(ends_so(remote)) << remote.status();
  // What users search for is still where it was.
  EXPECT_TRUE(absl::StartsWith(remote.status().message(), "Error on Node 1: "));
  EXPECT_EQ(recorder.Count("started push"), 1);
  EXPECT_EQ(recorder.Count("started"), 1);

  const Future late = agent.Send("w1", Request("wait"), push);
  EXPECT_TRUE(ends_so(late)) << late.status();
  const Future retried =
      agent.SendWithRetries("w1", Request("wait"), push, once);
  EXPECT_TRUE(ends_so(retried)) << retried.status();
  EXPECT_EQ(recorder.Count("retried"), 1);
  const Future cancelled =
      agent.SendWithRetries("w1", Request("wait"), {.label = "push"});
  cancelled.Cancel();
  EXPECT_TRUE(ends_so(cancelled)) << cancelled.status();
  for (const Future& refused :
       {agent.Send("nobody", Request("x"), push),
        agent.SendOneWay("nobody", Request("x"), push),
        agent.SendWithRetries("nobody", Request("x"), push),
        agent.Send("w1", Message(), push),
        agent.Send("w1", Request("x"),
                   {.deadline = absl::InfinitePast(), .label = "push"})}) {
    EXPECT_TRUE(ends_so(refused)) << refused.status();
  }
  gate.Open();
  EXPECT_TRUE(agent.Shutdown(Soon()).ok());
  const Future after = agent.Send("w1", Request("x"), push);
  EXPECT_TRUE(ends_so(after)) << after.status();
}

TEST(CallErrorTest, ALabelThatIsNoneIsRefused) {
  Cluster cluster;
  cluster.Start(1, Echo());
  for (const std::string& label :
       {std::string(kMaxCallLabel + 1, 'x'), std::string("a\nb"),
        std::string("caf\xc3\xa9"), std::string(1, '\0')}) {
    const Future call = cluster[0].Send("w0", Request("x"), {.label = label});
    EXPECT_TRUE(absl::IsInvalidArgument(call.status())) << call.status();
  }
  EXPECT_TRUE(
      cluster[0]
          .Send("w0", Request("x"), {.label = std::string(kMaxCallLabel, 'x')})
          .status()
          .ok());
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

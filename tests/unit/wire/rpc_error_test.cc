#include "agent/wire/rpc_error.h"

#include <string>

#include "absl/status/status.h"
#include "agent/call_error.h"
#include "gtest/gtest.h"

namespace reprise {
namespace {

TEST(RpcErrorTest, HasPyTorchsText) {
  EXPECT_EQ(MakeRpcError(RpcErrorType::kTimeout, "RPC ran for more"),
            "RPCErr:1:RPC ran for more");
  EXPECT_EQ(MakeRpcError(RpcErrorType::kIntentionalFailure, "x"), "RPCErr:2:x");
  EXPECT_EQ(MakeRpcError(RpcErrorType::kUnknown, ""), "RPCErr:0:");
}

TEST(RpcErrorTest, ParsesOnlyAPrefix) {
  EXPECT_EQ(ParseRpcErrorType("RPCErr:1:late"), RpcErrorType::kTimeout);
  EXPECT_EQ(ParseRpcErrorType("RPCErr:2:"), RpcErrorType::kIntentionalFailure);
  EXPECT_EQ(ParseRpcErrorType("RPCErr:0:x"), RpcErrorType::kUnknown);
  // Defect 21: a text of the user's that mentions one.
  EXPECT_EQ(ParseRpcErrorType("user saw RPCErr:1:late"),
            RpcErrorType::kUnknown);
  for (const char* text :
       {"", "RPCErr", "RPCErr:", "RPCErr:1",
        "RPCErr:x:", "RPCErr::", "RPCErr:12:", "RPCErr:-1:", "rpcerr:1:"}) {
    EXPECT_EQ(ParseRpcErrorType(text), RpcErrorType::kUnknown) << text;
  }
}

TEST(RpcErrorTest, BecomesAStatus) {
  EXPECT_EQ(RpcErrorStatus(RpcErrorType::kTimeout, "t"),
            absl::DeadlineExceededError("RPCErr:1:t"));
  EXPECT_EQ(RpcErrorStatus(RpcErrorType::kIntentionalFailure, "t"),
            absl::UnavailableError("RPCErr:2:t"));
  EXPECT_EQ(RpcErrorStatus(RpcErrorType::kUnknown, "t"),
            absl::UnknownError("RPCErr:0:t"));
}

TEST(ExceptionPayloadTest, NamesTheNode) {
  EXPECT_EQ(ExceptionPayload(3, absl::UnknownError("boom")),
            "Error on Node 3: boom");
  EXPECT_EQ(ExceptionPayload(0, absl::NotFoundError("no row 7")),
            "Error on Node 0: NOT_FOUND: no row 7");
}

TEST(ExceptionPayloadTest, ARefusalIsNoErrorOfTheHandler) {
  const absl::Status full = absl::ResourceExhaustedError("full");
  const absl::Status refusal = StatusFromException(RefusalPayload(3, full));
  EXPECT_TRUE(absl::IsResourceExhausted(refusal));
  EXPECT_EQ(refusal.message(), "Refused by Node 3: RESOURCE_EXHAUSTED: full");
  EXPECT_EQ(CallErrorOf(refusal)->source, CallErrorSource::kRemoteAgent);
  // A handler cannot pass for the agent.
  for (const auto code :
       {absl::StatusCode::kUnknown, absl::StatusCode::kResourceExhausted}) {
    const absl::Status error = StatusFromException(
        ExceptionPayload(3, absl::Status(code, "Refused by Node 3: full")));
    EXPECT_EQ(CallErrorOf(error)->source, CallErrorSource::kRemoteHandler);
  }
}

TEST(ExceptionPayloadTest, EveryCodeComesBack) {
  for (int i = 1; i <= 16; ++i) {
    const absl::Status error(static_cast<absl::StatusCode>(i), "why");
    const absl::Status back = StatusFromException(ExceptionPayload(12, error));
    EXPECT_EQ(back.code(), error.code());
    EXPECT_EQ(back.message(), absl::string_view(ExceptionPayload(12, error)));
    EXPECT_EQ(CallErrorOf(back)->source, CallErrorSource::kRemoteHandler);
  }
}

TEST(StatusFromExceptionTest, TextsOfStockWorkers) {
  EXPECT_EQ(StatusFromException("Error on Node 1: tensor mismatch").message(),
            "Error on Node 1: tensor mismatch");
  EXPECT_EQ(StatusFromException("Error on Node 1: tensor mismatch").code(),
            absl::StatusCode::kUnknown);
  EXPECT_EQ(StatusFromException("RPCErr:1:late").code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(StatusFromException("anything").code(), absl::StatusCode::kUnknown);
  EXPECT_EQ(StatusFromException("").code(), absl::StatusCode::kUnknown);
  // The code is read in its place only, and OK is no error.
  EXPECT_EQ(StatusFromException("NOT_FOUND: x").code(),
            absl::StatusCode::kUnknown);
  EXPECT_EQ(StatusFromException("Error on Node 1: got NOT_FOUND: x").code(),
            absl::StatusCode::kUnknown);
  EXPECT_EQ(StatusFromException("Error on Node 1: OK: x").code(),
            absl::StatusCode::kUnknown);
}

// A handler whose own call timed out did not make its caller time out.
TEST(StatusFromExceptionTest, ARemoteTimeoutIsNoLocalOne) {
  const absl::Status nested = RpcErrorStatus(RpcErrorType::kTimeout, "late");
  const absl::Status error = StatusFromException(ExceptionPayload(2, nested));
  EXPECT_EQ(ParseRpcErrorType(std::string(error.message())),
            RpcErrorType::kUnknown);
  EXPECT_FALSE(RetryMayHelp(error));
  EXPECT_TRUE(RetryMayHelp(nested));
}

TEST(StatusFromExceptionTest, TellsTheAgentFromItsHandler) {
  const absl::Status draining = absl::UnavailableError("w3 is draining");
  const absl::Status agent =
      StatusFromException(ExceptionPayload(3, RefusedByAgent(draining)));
  EXPECT_EQ(agent.message(), "Refused by Node 3: UNAVAILABLE: w3 is draining");
  EXPECT_EQ(CallErrorOf(agent),
            (CallError{CallErrorSource::kRemoteAgent, false, true}));
  // What a handler got from its own call, or makes up, is the handler's.
  for (const absl::Status& error :
       {draining, agent,
        absl::UnavailableError("Refused by Node 4: UNAVAILABLE: x")}) {
    const absl::Status handler =
        StatusFromException(ExceptionPayload(4, error));
    EXPECT_TRUE(absl::IsUnavailable(handler));
    EXPECT_EQ(CallErrorOf(handler),
              (CallError{CallErrorSource::kRemoteHandler, true, false}))
        << handler;
  }
}

}  // namespace
}  // namespace reprise

#include "agent/wire/rpc_error.h"

#include <string>

#include "absl/status/status.h"
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
  EXPECT_EQ(refusal.message(),
            "Error on Node 3: RESOURCE_EXHAUSTED: refused by the agent: full");
  EXPECT_FALSE(IsRemoteError(refusal));
  // A handler cannot pass for the agent.
  for (const auto code :
       {absl::StatusCode::kUnknown, absl::StatusCode::kResourceExhausted}) {
    EXPECT_TRUE(IsRemoteError(StatusFromException(ExceptionPayload(
        3, absl::Status(code, "refused by the agent: full")))));
  }
}

TEST(ExceptionPayloadTest, EveryCodeComesBack) {
  for (int i = 1; i <= 16; ++i) {
    const absl::Status error(static_cast<absl::StatusCode>(i), "why");
    const absl::Status back = StatusFromException(ExceptionPayload(12, error));
    EXPECT_EQ(back.code(), error.code());
    EXPECT_EQ(back.message(), absl::string_view(ExceptionPayload(12, error)));
    EXPECT_TRUE(IsRemoteError(back));
  }
}

TEST(StatusFromExceptionTest, TextsOfStockWorkers) {
  EXPECT_EQ(StatusFromException("Error on Node 1: tensor mismatch"),
            absl::UnknownError("Error on Node 1: tensor mismatch"));
  EXPECT_EQ(StatusFromException("RPCErr:1:late"),
            absl::DeadlineExceededError("RPCErr:1:late"));
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
  EXPECT_TRUE(IsRemoteError(error));
  EXPECT_FALSE(IsRemoteError(nested));
}

TEST(IsRemoteErrorTest, NeedsTheWholePrefix) {
  EXPECT_FALSE(IsRemoteError(absl::OkStatus()));
  EXPECT_FALSE(IsRemoteError(absl::UnknownError("Error on Node : x")));
  EXPECT_FALSE(IsRemoteError(absl::UnknownError("Error on Node 1")));
  EXPECT_FALSE(IsRemoteError(absl::UnknownError("an Error on Node 1: x")));
}

}  // namespace
}  // namespace reprise

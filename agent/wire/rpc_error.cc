#include "agent/wire/rpc_error.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "agent/call_error.h"

namespace reprise {
namespace {

constexpr std::string_view kRpcError = "RPCErr:";
constexpr std::string_view kRemoteError = "Error on Node ";
constexpr std::string_view kRefusal = "Refused by Node ";

// Debian's Abseil has a string_view of its own.
absl::string_view ToAbsl(std::string_view text) {
  return {text.data(), text.size()};
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

std::optional<RpcErrorType> ParsePrefix(std::string_view text) {
  if (!text.starts_with(kRpcError)) return std::nullopt;
  text.remove_prefix(kRpcError.size());
  if (text.size() < 2 || !IsDigit(text[0]) || text[1] != ':') {
    return std::nullopt;
  }
  switch (text[0]) {
    case '1':
      return RpcErrorType::kTimeout;
    case '2':
      return RpcErrorType::kIntentionalFailure;
    default:
      return RpcErrorType::kUnknown;
  }
}

absl::StatusCode CodeOf(RpcErrorType type) {
  switch (type) {
    case RpcErrorType::kTimeout:
      return absl::StatusCode::kDeadlineExceeded;
    case RpcErrorType::kIntentionalFailure:
      return absl::StatusCode::kUnavailable;
    case RpcErrorType::kUnknown:
      break;
  }
  return absl::StatusCode::kUnknown;
}

// Returns what follows `words`, an id and ": ".
std::optional<std::string_view> TextAfter(std::string_view words,
                                          std::string_view text) {
  if (!text.starts_with(words)) return std::nullopt;
  text.remove_prefix(words.size());
  const size_t digits =
      std::find_if_not(text.begin(), text.end(), IsDigit) - text.begin();
  text.remove_prefix(digits);
  if (digits == 0 || !text.starts_with(": ")) return std::nullopt;
  return text.substr(2);
}

// The code that `text` starts with, as in "NOT_FOUND: no such row".
absl::StatusCode NamedCode(std::string_view text) {
  constexpr int kLastCode =
      static_cast<int>(absl::StatusCode::kUnauthenticated);
  for (int i = 1; i <= kLastCode; ++i) {
    const auto code = static_cast<absl::StatusCode>(i);
    if (text.starts_with(absl::StrCat(absl::StatusCodeToString(code), ": "))) {
      return code;
    }
  }
  return absl::StatusCode::kUnknown;
}

}  // namespace

std::string MakeRpcError(RpcErrorType type, std::string_view text) {
  return absl::StrCat(ToAbsl(kRpcError), static_cast<int>(type), ":",
                      ToAbsl(text));
}

RpcErrorType ParseRpcErrorType(std::string_view text) {
  return ParsePrefix(text).value_or(RpcErrorType::kUnknown);
}

absl::Status RpcErrorStatus(RpcErrorType type, std::string_view text) {
  return absl::Status(CodeOf(type), MakeRpcError(type, text));
}

std::string ExceptionPayload(int64_t node_id, const absl::Status& error) {
  if (IsRefusedByAgent(error)) return RefusalPayload(node_id, error);
  const bool plain = error.code() == absl::StatusCode::kUnknown;
  return absl::StrCat(
      ToAbsl(kRemoteError), node_id, ": ",
      plain ? "" : absl::StrCat(absl::StatusCodeToString(error.code()), ": "),
      error.message());
}

std::string RefusalPayload(int64_t node_id, const absl::Status& refusal) {
  return absl::StrCat(ToAbsl(kRefusal), node_id, ": ",
                      absl::StatusCodeToString(refusal.code()), ": ",
                      refusal.message());
}

absl::Status StatusFromException(std::string_view payload) {
  absl::StatusCode code = absl::StatusCode::kUnknown;
  bool is_refusal = false;
  if (const auto type = ParsePrefix(payload)) {
    code = CodeOf(*type);
  } else if (const auto what = TextAfter(kRemoteError, payload)) {
    code = NamedCode(*what);
  } else if (const auto what = TextAfter(kRefusal, payload)) {
    code = NamedCode(*what);
    is_refusal = true;
  }
  return WithCallError(absl::Status(code, ToAbsl(payload)),
                       is_refusal ? CallErrorSource::kRemoteAgent
                                  : CallErrorSource::kRemoteHandler,
                       /*may_have_run=*/!is_refusal);
}

}  // namespace reprise

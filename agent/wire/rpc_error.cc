#include "agent/wire/rpc_error.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

constexpr std::string_view kRpcError = "RPCErr:";
constexpr std::string_view kRemoteError = "Error on Node ";
constexpr std::string_view kRefused = "refused by the agent: ";

// Abseil of Debian has a string_view of its own.
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

// What follows "Error on Node <id>: ".
std::optional<std::string_view> RemoteText(std::string_view text) {
  if (!text.starts_with(kRemoteError)) return std::nullopt;
  text.remove_prefix(kRemoteError.size());
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
  const bool plain = error.code() == absl::StatusCode::kUnknown;
  // Only an agent begins a text with these words.
  const bool claims =
      error.message().substr(0, kRefused.size()) == ToAbsl(kRefused);
  return absl::StrCat(
      ToAbsl(kRemoteError), node_id, ": ",
      plain ? "" : absl::StrCat(absl::StatusCodeToString(error.code()), ": "),
      claims ? "handler: " : "", error.message());
}

std::string RefusalPayload(int64_t node_id, const absl::Status& refusal) {
  return absl::StrCat(ToAbsl(kRemoteError), node_id, ": ",
                      absl::StatusCodeToString(refusal.code()), ": ",
                      ToAbsl(kRefused), refusal.message());
}

absl::Status StatusFromException(std::string_view payload) {
  absl::StatusCode code = absl::StatusCode::kUnknown;
  if (const auto type = ParsePrefix(payload)) {
    code = CodeOf(*type);
  } else if (const auto what = RemoteText(payload)) {
    code = NamedCode(*what);
  }
  return absl::Status(code, ToAbsl(payload));
}

bool IsRemoteError(const absl::Status& status) {
  const absl::string_view message = status.message();
  const auto what = RemoteText({message.data(), message.size()});
  if (status.ok() || !what.has_value()) return false;
  const std::string refusal = absl::StrCat(
      absl::StatusCodeToString(status.code()), ": ", ToAbsl(kRefused));
  return !what->starts_with(refusal);
}

}  // namespace reprise

#include "agent/call_error.h"

#include <string>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

// The payload is a text, because a status prints it.
constexpr char kPayload[] = "reprise/failed";
constexpr char kRefusal[] = "reprise/refused";
constexpr char kNotRun[] = "; it did not run";
constexpr char kRetry[] = "; a retry may help";

constexpr CallErrorSource kSources[] = {
    CallErrorSource::kCaller, CallErrorSource::kTransport,
    CallErrorSource::kRemoteAgent, CallErrorSource::kRemoteHandler,
    CallErrorSource::kDeadline};

absl::string_view Name(CallErrorSource source) {
  const std::string_view name = ToString(source);
  return {name.data(), name.size()};
}

bool IsTransient(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsResourceExhausted(status);
}

}  // namespace

std::string_view ToString(CallErrorSource source) {
  switch (source) {
    case CallErrorSource::kCaller:
      return "caller";
    case CallErrorSource::kTransport:
      return "transport";
    case CallErrorSource::kRemoteAgent:
      return "remote agent";
    case CallErrorSource::kRemoteHandler:
      return "remote handler";
    case CallErrorSource::kDeadline:
      return "deadline";
  }
  return "unknown";
}

std::optional<CallError> CallErrorOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kPayload);
  if (!payload.has_value()) return std::nullopt;
  const std::string text(*payload);
  for (const CallErrorSource source : kSources) {
    if (!absl::StartsWith(text, Name(source))) continue;
    CallError error{.source = source};
    error.may_have_run = !absl::StrContains(text, kNotRun);
    error.retry_may_help = absl::StrContains(text, kRetry);
    return error;
  }
  return std::nullopt;
}

absl::Status WithCallError(absl::Status status, const CallError& error) {
  if (status.ok() || status.GetPayload(kPayload).has_value()) return status;
  status.SetPayload(
      kPayload, absl::Cord(absl::StrCat(Name(error.source),
                                        error.may_have_run ? "" : kNotRun,
                                        error.retry_may_help ? kRetry : "")));
  return status;
}

absl::Status WithCallError(absl::Status status, CallErrorSource source,
                           bool may_have_run) {
  const bool helps =
      source != CallErrorSource::kRemoteHandler && IsTransient(status);
  return WithCallError(std::move(status), {source, may_have_run, helps});
}

bool RetryMayHelp(const absl::Status& status) {
  if (const std::optional<CallError> error = CallErrorOf(status)) {
    return error->retry_may_help;
  }
  return IsTransient(status);
}

absl::Status CopyCallError(const absl::Status& from, absl::Status to) {
  const std::optional<CallError> error = CallErrorOf(from);
  return error.has_value() ? WithCallError(std::move(to), *error) : to;
}

absl::Status WithLabel(absl::Status status, std::string_view label) {
  if (status.ok() || label.empty()) return status;
  const std::string suffix = absl::StrCat(
      " (call ", absl::string_view(label.data(), label.size()), ")");
  if (absl::EndsWith(status.message(), suffix)) return status;
  absl::Status labelled(status.code(), absl::StrCat(status.message(), suffix));
  status.ForEachPayload(
      [&labelled](absl::string_view key, const absl::Cord& payload) {
        labelled.SetPayload(key, payload);
      });
  return labelled;
}

absl::Status RefusedByAgent(absl::Status status) {
  if (!status.ok()) status.SetPayload(kRefusal, absl::Cord());
  return status;
}

bool IsRefusedByAgent(const absl::Status& status) {
  return status.GetPayload(kRefusal).has_value();
}

}  // namespace reprise

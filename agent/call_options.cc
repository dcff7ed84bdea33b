#include "agent/call_options.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace reprise {

absl::Status Validate(const RetryOptions& options) {
  constexpr double kMaxBackoff = 100;
  if (options.max_retries < 0) {
    return absl::InvalidArgumentError("maxRetries cannot be negative.");
  }
  // Not "< 1": NaN is no backoff either.
  if (!(options.backoff >= 1)) {
    return absl::InvalidArgumentError(
        "maxRetries cannot be exponentially decaying.");
  }
  if (options.backoff > kMaxBackoff) {
    return absl::InvalidArgumentError(
        absl::StrCat("the backoff of retries must be at most ", kMaxBackoff,
                     ", got ", options.backoff));
  }
  if (options.retry_duration < absl::ZeroDuration()) {
    return absl::InvalidArgumentError("rpcRetryDuration cannot be negative.");
  }
  if (options.max_pause < absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the longest pause between retries must not be negative, "
                     "got ",
                     absl::FormatDuration(options.max_pause)));
  }
  if (options.retry_duration == absl::InfiniteDuration() &&
      options.max_pause == absl::InfiniteDuration()) {
    return absl::InvalidArgumentError(
        "the pause between retries must be finite");
  }
  if (!(options.jitter >= 0 && options.jitter <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the jitter of retries must be in [0, 1], got ", options.jitter));
  }
  if (options.total_timeout <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the total timeout of retries must be positive, got ",
                     absl::FormatDuration(options.total_timeout)));
  }
  return absl::OkStatus();
}

absl::Status ValidateLabel(std::string_view label) {
  if (label.size() > kMaxCallLabel) {
    return absl::InvalidArgumentError(
        absl::StrCat("a call's label has at most ", kMaxCallLabel,
                     " characters, got ", label.size()));
  }
  if (!std::all_of(label.begin(), label.end(), [](char c) {
        return absl::ascii_isprint(static_cast<unsigned char>(c));
      })) {
    return absl::InvalidArgumentError(
        "a call's label has printable ASCII characters only");
  }
  return absl::OkStatus();
}

absl::Status Validate(const ReceiveInto& into) {
  for (size_t i = 0; i < into.storages.size(); ++i) {
    const std::shared_ptr<Storage>& storage = into.storages[i];
    if (storage == nullptr || storage->device() != CpuDevice()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "storage ", i, " of CallOptions::receive_into is ",
          storage == nullptr ? "null"
                             : absl::StrCat("on ", storage->device().ToString(),
                                            " and not on the CPU")));
    }
  }
  return absl::OkStatus();
}

}  // namespace reprise

#include "agent/options.h"

#include <limits>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/device/device_map.h"
#include "agent/worker_info.h"

namespace reprise {

absl::Status Validate(const AgentOptions& options) {
  if (!IsWorkerName(options.name)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "Worker name must match regex [A-Za-z0-9-_:]*, and must be non-empty "
        "and shorter than ",
        kMaxWorkerName, " chars, but got ",
        absl::CHexEscape(options.name.substr(0, 2 * kMaxWorkerName))));
  }
  constexpr int64_t kMaxId = std::numeric_limits<WorkerId>::max();
  const bool is_dynamic = options.world_size == kDynamicGroup;
  if ((options.id < 0 && !(is_dynamic && options.id == kAnyId)) ||
      options.id > kMaxId) {
    return absl::InvalidArgumentError(absl::StrCat(
        "RPC worker id ", options.id, " out of bound of int16_t."));
  }
  if (!is_dynamic &&
      (options.world_size <= options.id || options.world_size > kMaxId + 1)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "world_size must be above the worker's id ", options.id,
        " and at most ", kMaxId + 1, ", got ", options.world_size));
  }
  if (options.num_worker_threads <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("num_worker_threads must be positive, got ",
                     options.num_worker_threads));
  }
  if (options.rpc_timeout < absl::ZeroDuration()) {
    return absl::InvalidArgumentError("RPC Timeout must be non-negative");
  }
  if (options.max_pending_calls_per_peer == 0) {
    return absl::InvalidArgumentError(
        "max_pending_calls_per_peer must be positive, got 0");
  }
  if (options.connect_timeout <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("connect_timeout must be positive, got ",
                     absl::FormatDuration(options.connect_timeout)));
  }
  if (options.store_timeout <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("store_timeout must be positive, got ",
                     absl::FormatDuration(options.store_timeout)));
  }
  if (options.membership_refresh <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("membership_refresh must be positive, got ",
                     absl::FormatDuration(options.membership_refresh)));
  }
  if (options.token_lease <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("token_lease must be positive, got ",
                     absl::FormatDuration(options.token_lease)));
  }
  if (options.max_pending_bytes_per_peer == 0) {
    return absl::InvalidArgumentError(
        "max_pending_bytes_per_peer must be positive, got 0");
  }
  if (options.shortest_reconnect_pause <= absl::ZeroDuration() ||
      options.longest_reconnect_pause < options.shortest_reconnect_pause) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the pauses between attempts to connect must be positive and the "
        "longest not below the shortest, got ",
        absl::FormatDuration(options.shortest_reconnect_pause), " and ",
        absl::FormatDuration(options.longest_reconnect_pause)));
  }
  if (options.keepalive_interval < absl::ZeroDuration() ||
      options.keepalive_bound <= options.keepalive_interval) {
    return absl::InvalidArgumentError(absl::StrCat(
        "keepalive_interval must not be negative and keepalive_bound above it, "
        "got ",
        absl::FormatDuration(options.keepalive_interval), " and ",
        absl::FormatDuration(options.keepalive_bound)));
  }
  if (options.max_idempotent_calls == 0 ||
      options.max_idempotent_calls_per_caller == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "max_idempotent_calls and max_idempotent_calls_per_caller must be "
        "positive, got ",
        options.max_idempotent_calls, " and ",
        options.max_idempotent_calls_per_caller));
  }
  if (absl::Status status = Validate(options.server_bounds); !status.ok()) {
    return status;
  }
  if (options.bulk_bytes == 0) {
    return absl::InvalidArgumentError("bulk_bytes must be positive, got 0");
  }
  return ValidateDevices(
      {{options.name,
        {options.device_maps, options.devices, options.device_count}}});
}

}  // namespace reprise

#include "agent/server_bounds.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace reprise {

absl::Status Validate(const ServerBounds& bounds) {
  const std::pair<const char*, const ServerBounds::Bound&> pairs[] = {
      {"queued_per_peer", bounds.queued_per_peer},
      {"queued_in_all", bounds.queued_in_all},
      {"running_per_peer", bounds.running_per_peer},
      {"running_in_all", bounds.running_in_all},
      {"unwritten_per_peer", bounds.unwritten_per_peer},
      {"unwritten_in_all", bounds.unwritten_in_all},
  };
  for (const auto& [name, bound] : pairs) {
    if (bound.calls == 0 || bound.bytes == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("server_bounds.", name, " must be positive, got ",
                       bound.calls, " calls and ", bound.bytes, " bytes"));
    }
  }
  if (bounds.connections_per_peer == 0 || bounds.connections_in_all == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "server_bounds.connections_per_peer and connections_in_all must be "
        "positive, got ",
        bounds.connections_per_peer, " and ", bounds.connections_in_all));
  }
  return absl::OkStatus();
}

}  // namespace reprise

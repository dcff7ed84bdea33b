#include "tests/stock/requests.h"

#include <cstdlib>

#include "absl/time/time.h"

namespace reprise::scenarios {

absl::StatusOr<std::string> Requests::Answer(const std::string& payload,
                                             const CallRank& call) {
  const char kind = payload.empty() ? '-' : payload[0];
  const int number = payload.empty() ? 0 : std::atoi(payload.c_str() + 1);
  switch (kind) {
    case 'E':
      return payload;
    case 'S':
      worker_.Sleep(absl::Milliseconds(number));
      return payload;
    case 'F':
      return absl::InternalError("failed as it was asked to");
    case 'R': {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (seen_.insert(payload).second) {
        return absl::UnavailableError("the first attempt fails");
      }
      return payload;
    }
    case 'N': {
      const absl::Status status = call(number);
      if (!status.ok()) return status;
      return payload;
    }
    default:
      return absl::InvalidArgumentError("no such request: '" + payload + "'");
  }
}

}  // namespace reprise::scenarios

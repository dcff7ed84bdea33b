#include "agent/message.h"

#include <utility>

namespace reprise {

std::shared_ptr<void> OnReleased(absl::AnyInvocable<void()> callback) {
  struct Guard {
    explicit Guard(absl::AnyInvocable<void()> on_released)
        : callback(std::move(on_released)) {}
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;
    ~Guard() {
      if (callback) callback();
    }
    absl::AnyInvocable<void()> callback;
  };
  return std::make_shared<Guard>(std::move(callback));
}

}  // namespace reprise

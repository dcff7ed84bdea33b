// The connections of a store to its server: one for each call in progress, so
// that a call that waits delays no other.

#ifndef REPRISE_AGENT_STORE_CONNECTION_POOL_H_
#define REPRISE_AGENT_STORE_CONNECTION_POOL_H_

#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"
#include "agent/store/store_status.h"

namespace reprise {

// Whether a call that may have had its effect already can be repeated.
enum class Repeatable { kNo, kYes };

// `Connection` has `bool IsUsable()`: it is intact, and the server is not known
// to have gone. Thread-safe. `runtime` must outlive it.
template <typename Connection>
class ConnectionPool {
 public:
  explicit ConnectionPool(Runtime& runtime)
      : mutex_(runtime, "ConnectionPool") {}

  // Returns the result of `call(Connection&)`, a Status or StatusOr, on an idle
  // connection of the pool or on a new one that `open()` makes. If the
  // connection breaks, a repeatable call is made again on another one, up to
  // three times in all. It ends when `open()` fails.
  template <typename Open, typename Call>
  auto Run(Repeatable repeatable, Open open, Call call)
      -> decltype(call(std::declval<Connection&>())) {
    for (int tries = repeatable == Repeatable::kYes ? kTries : 1;; --tries) {
      std::unique_ptr<Connection> connection = Take();
      if (connection == nullptr) {
        absl::StatusOr<std::unique_ptr<Connection>> opened = open();
        if (!opened.ok()) return opened.status();
        connection = *std::move(opened);
      }
      auto result = call(*connection);
      const bool usable = connection->IsUsable();
      if (usable) Give(std::move(connection));
      if (usable || tries <= 1 || !absl::IsUnavailable(StatusOf(result))) {
        return result;
      }
    }
  }

 private:
  static constexpr int kTries = 3;
  static constexpr size_t kMaxIdle = 4;

  std::unique_ptr<Connection> Take() {
    MutexLock lock(mutex_);
    while (!idle_.empty()) {
      std::unique_ptr<Connection> connection = std::move(idle_.back());
      idle_.pop_back();
      // The server may have been restarted.
      if (connection->IsUsable()) return connection;
    }
    return nullptr;
  }

  void Give(std::unique_ptr<Connection> connection) {
    MutexLock lock(mutex_);
    if (idle_.size() < kMaxIdle) idle_.push_back(std::move(connection));
  }

  Mutex mutex_;
  std::vector<std::unique_ptr<Connection>> idle_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_CONNECTION_POOL_H_

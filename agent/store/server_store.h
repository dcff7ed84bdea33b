// What the stores that have a server share: a connection of its own for each
// call in progress, calls that poll, and the bounds and texts of errors.

#ifndef REPRISE_AGENT_STORE_SERVER_STORE_H_
#define REPRISE_AGENT_STORE_SERVER_STORE_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/runtime/runtime.h"
#include "agent/store/backoff.h"
#include "agent/store/connection_pool.h"
#include "agent/store/store.h"
#include "agent/store/store_status.h"

namespace reprise {

// A longer value is INVALID_ARGUMENT, to set and to get, so that a server
// cannot make us reserve more memory than this.
inline constexpr size_t kMaxServerStoreValueBytes = size_t{64} << 20;

// Thread-safe. `runtime` must outlive it; deadlines are on its clock. For
// `Connection` see connection_pool.h.
template <typename Connection>
class ServerStore : public Store {
 public:
  // Polls, and holds no connection between two polls.
  absl::StatusOr<std::string> Get(std::string_view key,
                                  absl::Time deadline) final {
    Backoff backoff(runtime_, kFirstPause, longest_pause_, deadline);
    do {
      absl::StatusOr<std::string> value = GetIfThere("Get", key, deadline);
      if (!absl::IsNotFound(value.status())) return value;
    } while (backoff.Pause());
    return StoreDeadlineExceeded("Get", key);
  }

  absl::StatusOr<std::string> TryGet(std::string_view key,
                                     absl::Time deadline) final {
    return GetIfThere("TryGet", key, deadline);
  }

 protected:
  // `longest_pause` is that between two polls.
  explicit ServerStore(Runtime& runtime,
                       absl::Duration longest_pause = absl::Milliseconds(20))
      : runtime_(runtime), longest_pause_(longest_pause), pool_(runtime) {}

  Runtime& runtime() { return runtime_; }

  virtual absl::StatusOr<std::unique_ptr<Connection>> Connect(
      absl::Time deadline) = 0;

  // Asks the server once. NOT_FOUND, made by `NoSuchKey`, when it does not have
  // `key`. `name` is the name of the method, for error texts, here and below.
  virtual absl::StatusOr<std::string> GetIfThere(std::string_view name,
                                                 std::string_view key,
                                                 absl::Time deadline) = 0;

  static absl::Status NoSuchKey(std::string_view key) {
    return absl::NotFoundError(
        absl::StrCat("store: no key ", PrintableKey(key)));
  }

  // Returns what `call(Connection&)`, a Status or StatusOr, does on some
  // connection. DEADLINE_EXCEEDED names the call, the key and the reason.
  template <typename Call>
  auto Run(std::string_view name, std::string_view key, Repeatable repeatable,
           absl::Time deadline, Call call)
      -> decltype(call(std::declval<Connection&>())) {
    if (runtime_.Now() >= deadline) return StoreDeadlineExceeded(name, key);
    auto result = pool_.Run(
        repeatable, [&] { return Connect(deadline); }, call);
    const absl::Status& status = StatusOf(result);
    if (!absl::IsDeadlineExceeded(status)) return result;
    return absl::DeadlineExceededError(absl::StrCat(
        StoreDeadlineExceeded(name, key).message(), ": ", status.message()));
  }

 private:
  static constexpr absl::Duration kFirstPause = absl::Microseconds(500);

  Runtime& runtime_;
  const absl::Duration longest_pause_;
  ConnectionPool<Connection> pool_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_SERVER_STORE_H_

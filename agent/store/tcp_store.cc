#include "agent/store/tcp_store.h"

#include <atomic>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/runtime/mutex.h"
#include "agent/store/server_store.h"
#include "agent/store/store_status.h"
#include "agent/store/store_url.h"
#include "agent/store/tcp_store_connection.h"

namespace reprise {
namespace {

using Connection = TcpStoreConnection;

// How long a server may take for its first answer if its URL names the
// protocol.
constexpr absl::Duration kFirstAnswerTimeout = absl::Seconds(3);

// The limits of a server of protocol 2.
constexpr size_t kMaxKeyBytes2 = size_t{8} * 1024;
constexpr size_t kMaxValueBytes2 = size_t{8} * 1024 * 1024;

// PyTorch's client puts a "/" before every key.
std::string Raw(std::string_view key) { return "/" + std::string(key); }

class TcpStore : public ServerStore<TcpStoreConnection> {
 public:
  TcpStore(Runtime& runtime, StoreUrl url, TcpStoreProtocol protocol)
      : ServerStore(runtime),
        url_(std::move(url)),
        mutex_(runtime, "TcpStore"),
        protocol_(protocol) {}

  absl::Status Set(std::string_view key, std::string_view value,
                   absl::Time deadline) override {
    return Ask("Set", key, value, Repeatable::kYes, deadline,
               [&](Connection& connection) {
                 return connection.Set(Raw(key), value, deadline);
               });
  }

  absl::StatusOr<std::string> CompareSet(std::string_view key,
                                         std::string_view expected,
                                         std::string_view desired,
                                         absl::Time deadline) override {
    return Ask("CompareSet", key,
               expected.size() > desired.size() ? expected : desired,
               Repeatable::kNo, deadline, [&](Connection& connection) {
                 return connection.CompareSet(Raw(key), expected, desired,
                                              deadline);
               });
  }

  absl::StatusOr<int64_t> Add(std::string_view key, int64_t delta,
                              absl::Time deadline) override {
    absl::StatusOr<int64_t> sum = Ask(
        "Add", key, "", Repeatable::kNo, deadline, [&](Connection& connection) {
          return connection.Add(Raw(key), delta, deadline);
        });
    if (!absl::IsUnavailable(sum.status())) return sum;
    // A server that cannot add closes the connection.
    const absl::StatusOr<std::string> value = TryGet(key, deadline);
    if (!value.ok()) return sum;
    absl::StatusOr<int64_t> checked =
        AddToCounter(*value, 0, absl::StrCat("key ", PrintableKey(key)));
    return checked.ok() ? sum : checked;
  }

  absl::StatusOr<bool> Delete(std::string_view key,
                              absl::Time deadline) override {
    const absl::StatusOr<int64_t> count =
        Ask("Delete", key, "", Repeatable::kNo, deadline,
            [&](Connection& connection) {
              return connection.Delete(Raw(key), deadline);
            });
    if (!count.ok()) return count.status();
    return *count != 0;
  }

 private:
  // There is a query that waits for a key, but in 1.13 a key that comes into
  // being by COMPARE_SET does not end it, and a wait that is given up costs its
  // connection.
  absl::StatusOr<std::string> GetIfThere(std::string_view name,
                                         std::string_view key,
                                         absl::Time deadline) override {
    return Ask(name, key, "", Repeatable::kYes, deadline,
               [&](Connection& connection) {
                 return CheckAndGet(connection, key, deadline);
               });
  }

  static absl::StatusOr<std::string> CheckAndGet(Connection& connection,
                                                 std::string_view key,
                                                 absl::Time deadline) {
    const absl::StatusOr<bool> there = connection.Check(Raw(key), deadline);
    if (!there.ok()) return there.status();
    if (*there) return connection.Get(Raw(key), deadline);
    return NoSuchKey(key);
  }

  // `value` is the longest value that the query sends.
  template <typename Call>
  auto Ask(std::string_view name, std::string_view key, std::string_view value,
           Repeatable repeatable, absl::Time deadline, Call call)
      -> decltype(call(std::declval<Connection&>())) {
    return Run(name, key, repeatable, deadline,
               [&](Connection& connection) -> decltype(call(connection)) {
                 absl::Status status = CheckSizes(connection, key, value);
                 if (!status.ok()) return status;
                 auto result = call(connection);
                 status = Understand(StatusOf(result), deadline);
                 if (!status.ok()) return status;
                 return result;
               });
  }

  static absl::Status CheckSizes(const Connection& connection,
                                 std::string_view key, std::string_view value) {
    const bool bounded = connection.protocol() == TcpStoreProtocol::k2;
    const size_t max_value =
        bounded ? kMaxValueBytes2 : kMaxServerStoreValueBytes;
    if (value.size() > max_value) {
      return absl::InvalidArgumentError(
          absl::StrCat("tcp store: the value of key ", PrintableKey(key),
                       " has more than ", max_value, " bytes"));
    }
    if (bounded && key.size() + 1 > kMaxKeyBytes2) {
      return absl::InvalidArgumentError(
          absl::StrCat("tcp store: the key ", PrintableKey(key),
                       " has more than ", kMaxKeyBytes2 - 1, " bytes"));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<Connection>> Connect(
      absl::Time deadline) override {
    const TcpStoreProtocol told = known_protocol();
    auto connection = told == TcpStoreProtocol::kUnknown
                          ? Connection::Discover(runtime(), url_, deadline)
                          : Connection::Open(runtime(), url_, told, deadline);
    if (!connection.ok()) return connection;
    if (told == TcpStoreProtocol::kUnknown) {
      is_understood_ = true;
      MutexLock lock(mutex_);
      protocol_ = (*connection)->protocol();
    } else if (!is_understood_) {
      (*connection)->ExpectFirstAnswerWithin(kFirstAnswerTimeout);
    }
    return connection;
  }

  // Learns from the result of a call. FAILED_PRECONDITION if the server, which
  // has never answered yet, speaks another protocol than the URL says.
  absl::Status Understand(const absl::Status& result, absl::Time deadline) {
    if (is_understood_) return absl::OkStatus();
    if (result.ok() || absl::IsNotFound(result)) {
      is_understood_ = true;
      return absl::OkStatus();
    }
    if (!absl::IsUnavailable(result)) return absl::OkStatus();
    return Connection::Diagnose(runtime(), url_, known_protocol(), deadline);
  }

  TcpStoreProtocol known_protocol() {
    MutexLock lock(mutex_);
    return protocol_;
  }

  const StoreUrl url_;
  Mutex mutex_;
  TcpStoreProtocol protocol_ ABSL_GUARDED_BY(mutex_);
  std::atomic<bool> is_understood_ = false;  // the server has answered once
};

}  // namespace

absl::StatusOr<std::shared_ptr<Store>> OpenTcpStore(Runtime& runtime,
                                                    std::string_view url) {
  absl::StatusOr<StoreUrl> parsed = ParseStoreUrl(url, "");
  if (!parsed.ok()) return parsed.status();
  if (!parsed->user.empty() || !parsed->password.empty()) {
    return BadStoreUrl(url, "a TCPStore has no users and no passwords");
  }
  if (!parsed->path.empty()) return BadStoreUrl(url, "a TCPStore has no path");
  TcpStoreProtocol protocol = TcpStoreProtocol::kUnknown;
  for (const auto& [name, value] : parsed->options) {
    if (name != "protocol" || (value != "1" && value != "2")) {
      return BadStoreUrl(url, "only protocol=1 or protocol=2 is allowed");
    }
    protocol = value == "1" ? TcpStoreProtocol::k1 : TcpStoreProtocol::k2;
  }
  return std::make_shared<TcpStore>(runtime, *std::move(parsed), protocol);
}

}  // namespace reprise

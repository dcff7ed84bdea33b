// One connection to a Redis server: commands and their replies.

#ifndef REPRISE_AGENT_STORE_REDIS_CONNECTION_H_
#define REPRISE_AGENT_STORE_REDIS_CONNECTION_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/runtime/runtime.h"
#include "agent/store/store_url.h"
#include "agent/store/tcp_socket.h"

struct redisReader;

namespace reprise {

// In an error, `text` is the server's line: a code, a blank and words.
struct RedisReply {
  enum class Kind { kNil, kInteger, kString, kStatus, kError };
  Kind kind = Kind::kNil;
  int64_t integer = 0;
  std::string text;
};

// hiredis formats the commands and parses the replies. The bytes go over our
// own socket, as hiredis cannot bound a call as a whole. Not thread-safe.
// `runtime` must outlive it.
class RedisConnection {
 public:
  // Connects, authenticates and selects the database. UNAVAILABLE,
  // DEADLINE_EXCEEDED, UNAUTHENTICATED, or another for a database that the
  // server does not have; no text has the password.
  static absl::StatusOr<std::unique_ptr<RedisConnection>> Open(
      Runtime& runtime, const StoreUrl& url, int database, absl::Time deadline);
  ~RedisConnection();

  // The server's refusal is an OK reply of kind kError. INVALID_ARGUMENT when
  // the reply is longer than kMaxServerStoreValueBytes. UNAVAILABLE when the
  // server sends anything else that is not a reply to a command of a store.
  absl::StatusOr<RedisReply> Call(const std::vector<std::string_view>& words,
                                  absl::Time deadline);

  // False after an error of `Call`, and when the server has closed the
  // connection.
  bool IsUsable() const { return usable_ && socket_.IsQuiet(); }

 private:
  struct FreeReader {
    void operator()(redisReader* reader) const;
  };

  RedisConnection(TcpSocket socket, redisReader* reader);
  absl::StatusOr<RedisReply> ReadReply(absl::Time deadline);
  absl::Status SetUp(const StoreUrl& url, int database, absl::Time deadline);

  TcpSocket socket_;
  const std::unique_ptr<redisReader, FreeReader> reader_;
  bool usable_ = true;
};

// The status that a refusal of the server becomes. `what` names the call.
absl::Status RedisError(std::string_view what, std::string_view server_text);

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_REDIS_CONNECTION_H_

// One connection to a TCPStore server: its queries and their answers. The bytes
// are in tcp_store_protocol.h.

#ifndef REPRISE_AGENT_STORE_TCP_STORE_CONNECTION_H_
#define REPRISE_AGENT_STORE_TCP_STORE_CONNECTION_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/runtime/runtime.h"
#include "agent/store/store_url.h"
#include "agent/store/tcp_socket.h"
#include "agent/store/tcp_store_protocol.h"

namespace reprise {

// Not thread-safe. `runtime` must outlive it. After any error it cannot be used
// any more: what the server sends next would belong to the query that failed.
class TcpStoreConnection {
 public:
  static absl::StatusOr<std::unique_ptr<TcpStoreConnection>> Open(
      Runtime& runtime, const StoreUrl& url, TcpStoreProtocol protocol,
      absl::Time deadline);

  // Finds out which protocol the server speaks. It asks in protocol 2 first. A
  // server of protocol 1 closes the connection then, and is asked in protocol 1
  // on another one.
  static absl::StatusOr<std::unique_ptr<TcpStoreConnection>> Discover(
      Runtime& runtime, const StoreUrl& url, absl::Time deadline);

  // Finds out why a server did not answer a client of `protocol`, which its URL
  // names. FAILED_PRECONDITION when the server speaks the other protocol, else
  // OK. Takes a few seconds at most.
  static absl::Status Diagnose(Runtime& runtime, const StoreUrl& url,
                               TcpStoreProtocol protocol, absl::Time deadline);

  // The first answer is UNAVAILABLE if it takes longer than `timeout`.
  void ExpectFirstAnswerWithin(absl::Duration timeout) {
    socket_.set_answer_timeout(timeout);
  }

  TcpStoreProtocol protocol() const { return protocol_; }

  // The server does not acknowledge this query. So a query that it answers is
  // sent after it, and on return the value has been set.
  absl::Status Set(std::string_view key, std::string_view value,
                   absl::Time deadline);
  absl::StatusOr<bool> Check(std::string_view key, absl::Time deadline);
  // A server that does not have the key closes the connection.
  absl::StatusOr<std::string> Get(std::string_view key, absl::Time deadline);
  absl::StatusOr<std::string> CompareSet(std::string_view key,
                                         std::string_view expected,
                                         std::string_view desired,
                                         absl::Time deadline);
  absl::StatusOr<int64_t> Add(std::string_view key, int64_t delta,
                              absl::Time deadline);
  absl::StatusOr<int64_t> Delete(std::string_view key, absl::Time deadline);

  // False after an error, and when the server has closed the connection.
  bool IsUsable() const {
    return usable_ && received_.empty() && socket_.IsQuiet();
  }

 private:
  enum class Query { kSet, kCompareSet, kGet, kAdd, kCheck, kNumKeys, kDelete };

  TcpStoreConnection(TcpSocket socket, TcpStoreProtocol protocol)
      : socket_(std::move(socket)), protocol_(protocol) {}

  // Connects, and asks for the number of keys.
  static absl::StatusOr<std::unique_ptr<TcpStoreConnection>> Probe(
      Runtime& runtime, const StoreUrl& url, TcpStoreProtocol protocol,
      absl::Time deadline);

  std::string Begin(Query query) const;
  absl::Status Send(std::string_view bytes, absl::Time deadline);
  // The next `size` bytes of the answer.
  absl::StatusOr<std::string> Receive(size_t size, absl::Time deadline);
  absl::StatusOr<int64_t> ReceiveNumber(absl::Time deadline);
  absl::StatusOr<std::string> ReceiveString(absl::Time deadline);
  absl::StatusOr<bool> ReceiveReady(absl::Time deadline);
  // Returns `result`, and remembers if it is an error.
  template <typename T>
  T Finish(T result) {
    usable_ = usable_ && result.ok();
    return result;
  }

  TcpSocket socket_;
  const TcpStoreProtocol protocol_;
  std::string received_;
  bool usable_ = true;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_TCP_STORE_CONNECTION_H_

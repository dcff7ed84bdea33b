// What a TCPStore server holds: keys, values and queues. It answers requests;
// bytes and connections are its owner's.

#ifndef REPRISE_AGENT_STORE_TCP_STORE_TABLE_H_
#define REPRISE_AGENT_STORE_TCP_STORE_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "agent/store/tcp_store_request.h"
#include "agent/store/tcp_store_waits.h"

namespace reprise {

// No answer is longer than this; MULTI_GET and LIST_KEYS could be.
inline constexpr size_t kMaxTcpStoreAnswerBytes = size_t{256} << 20;

// Not thread-safe.
class TcpStoreTable {
 public:
  using Client = TcpStoreWaits::Client;
  using Send = TcpStoreWaits::Send;

  // `max_bytes` bounds what the table holds in all: keys, values, queues, and
  // the keys that clients wait for or watch.
  TcpStoreTable(size_t max_bytes, Send send)
      : budget_(max_bytes), send_(std::move(send)), waits_(budget_, send_) {}

  // An error means that there is no answer, and that the client can only be
  // told by the end of its connection: a key that is not there, a counter that
  // is not one, or no room.
  absl::Status Handle(Client client, TcpStoreRequest request);

  // The client has gone: its waits end, and what it watches is not told any
  // more.
  void Forget(Client client) { waits_.Forget(client); }

  size_t num_keys() const { return values_.size(); }
  size_t num_waiting() const { return waits_.num_waiting(); }
  size_t bytes() const { return budget_.used(); }

 private:
  absl::Status CompareSet(Client client, TcpStoreRequest& request);
  absl::Status Get(Client client, const std::vector<std::string>& keys);
  absl::Status Add(Client client, TcpStoreRequest& request);
  absl::Status WaitFor(Client client, std::vector<std::string> keys);
  absl::Status Append(const std::string& key, std::string_view more);
  absl::Status Push(const std::string& key, std::string value);
  absl::Status Pop(Client client, const std::string& key);
  absl::Status Barrier(Client client, TcpStoreRequest& request);
  absl::Status ListKeys(Client client);
  void Delete(Client client, const std::string& key);

  // Sets the key, and tells those that watch it.
  absl::Status Put(const std::string& key, std::string value);
  absl::Status PutAndWake(const std::string& key, std::string value);
  bool IsThere(const std::string& key) const;
  bool AreThere(const std::vector<std::string>& keys) const;
  void SendNumber(Client client, uint64_t number, int size);

  ByteBudget budget_;
  const Send send_;
  TcpStoreWaits waits_;
  std::map<std::string, std::string> values_;
  std::map<std::string, std::deque<std::string>> queues_;  // none is empty
};

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_TCP_STORE_TABLE_H_

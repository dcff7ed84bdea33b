// Which client of a TCPStore server waits for which keys, and which watches
// them.

#ifndef REPRISE_AGENT_STORE_TCP_STORE_WAITS_H_
#define REPRISE_AGENT_STORE_TCP_STORE_WAITS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"

namespace reprise {

// What an entry of a server's tables takes beside its bytes, roughly.
inline constexpr size_t kTcpStoreEntryBytes = 128;

// How many bytes a server holds, and how many it may hold. Not thread-safe.
class ByteBudget {
 public:
  explicit ByteBudget(size_t max) : max_(max) {}

  // RESOURCE_EXHAUSTED if there is no room for so many bytes more.
  absl::Status Reserve(size_t bytes);
  void Release(size_t bytes) { used_ -= bytes; }
  size_t used() const { return used_; }

 private:
  const size_t max_;
  size_t used_ = 0;
};

// Not thread-safe.
class TcpStoreWaits {
 public:
  using Client = uint64_t;
  // Sends bytes to a client, not necessarily the one that is served. Must not
  // call back.
  using Send = std::function<void(Client client, std::string bytes)>;

  // What a change of a key is called for those that watch it.
  enum class Change : char { kUpdated = 0, kCreated = 1, kDeleted = 2 };

  // `budget`, for the keys, must outlive it.
  TcpStoreWaits(ByteBudget& budget, Send send)
      : budget_(budget), send_(std::move(send)) {}

  // The client waits for all of these keys, of which there is at least one. A
  // wait of it that goes on ends without an answer.
  absl::Status Start(Client client, std::set<std::string> missing);
  // Ends the wait of a client, if any, without an answer.
  void End(Client client);
  // The key is there: answers those that wait for no other any more. With
  // `one`, at most one of them, the one that has waited longest; those that
  // wait for other keys too take this one for found.
  void Wake(const std::string& key, bool one);

  absl::Status Watch(Client client, std::string key);
  void TellWatchers(const std::string& key, Change change,
                    std::string_view before, std::string_view after);
  bool IsWatched(const std::string& key) const {
    return watchers_.count(key) != 0;
  }

  // Ends its wait and its watches.
  void Forget(Client client);

  size_t num_waiting() const { return waits_.size(); }

 private:
  struct Wait {
    uint64_t ticket = 0;  // waits are numbered as they come
    std::set<std::string> missing;
  };

  ByteBudget& budget_;
  const Send send_;
  uint64_t next_ticket_ = 0;
  std::map<Client, Wait> waits_;
  // Who waits for a key, by ticket.
  std::map<std::string, std::map<uint64_t, Client>> waiting_for_;
  std::map<Client, std::set<std::string>> watches_;
  std::map<std::string, std::set<Client>> watchers_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_TCP_STORE_WAITS_H_

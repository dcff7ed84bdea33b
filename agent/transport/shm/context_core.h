// What the connections and listeners of one shm context share.

#ifndef REPRISE_AGENT_TRANSPORT_SHM_CONTEXT_CORE_H_
#define REPRISE_AGENT_TRANSPORT_SHM_CONTEXT_CORE_H_

#include <cstdint>
#include <map>
#include <memory>

#include "agent/transport/shm/loop.h"
#include "agent/transport/shm/peer_process.h"

namespace reprise::shm {

class Connection;
class Listener;

// All but `loop().deferToLoop` is the loop's thread's. Connections and
// listeners are kept alive from `Add` to `Remove`, and closed in the order in
// which they were added.
class ContextCore {
 public:
  ContextCore() = default;

  Loop& loop() { return loop_; }
  PeerProcesses& processes() { return processes_; }
  bool is_closed() const { return is_closed_; }

  void Add(std::shared_ptr<Connection> connection);
  void Add(std::shared_ptr<Listener> listener);
  void Remove(const Connection* connection);
  void Remove(const Listener* listener);
  void Close();

 private:
  Loop loop_;
  PeerProcesses processes_{loop_};
  bool is_closed_ = false;
  uint64_t last_number_ = 0;
  std::map<uint64_t, std::shared_ptr<Connection>> connections_;
  std::map<const Connection*, uint64_t> connection_numbers_;
  std::map<uint64_t, std::shared_ptr<Listener>> listeners_;
};

}  // namespace reprise::shm

#endif  // REPRISE_AGENT_TRANSPORT_SHM_CONTEXT_CORE_H_

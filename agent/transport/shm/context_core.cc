#include "agent/transport/shm/context_core.h"

#include <utility>

#include "agent/transport/shm/connection.h"
#include "agent/transport/shm/listener.h"

namespace reprise::shm {
namespace {

template <typename T>
void Erase(std::map<uint64_t, std::shared_ptr<T>>& all, const T* one) {
  for (auto it = all.begin(); it != all.end(); ++it) {
    if (it->second.get() == one) {
      all.erase(it);
      return;
    }
  }
}

}  // namespace

void ContextCore::Add(std::shared_ptr<Connection> connection) {
  connection_numbers_[connection.get()] = ++last_number_;
  connections_.emplace(last_number_, std::move(connection));
}

void ContextCore::Add(std::shared_ptr<Listener> listener) {
  listeners_.emplace(++last_number_, std::move(listener));
}

void ContextCore::Remove(const Connection* connection) {
  const auto number = connection_numbers_.find(connection);
  if (number == connection_numbers_.end()) return;
  connections_.erase(number->second);
  connection_numbers_.erase(number);
}

void ContextCore::Remove(const Listener* listener) {
  Erase(listeners_, listener);
}

void ContextCore::Close() {
  if (std::exchange(is_closed_, true)) return;
  while (!listeners_.empty()) listeners_.begin()->second->Close();
  while (!connections_.empty()) connections_.begin()->second->Close();
  processes_.Close();
  loop_.Stop();
}

}  // namespace reprise::shm

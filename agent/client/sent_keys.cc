#include "agent/client/sent_keys.h"

namespace reprise {
namespace {

// FNV-1a, and a mix of its bits.
uint64_t HashOf(std::string_view peer, std::string_view key) {
  uint64_t hash = 0xcbf29ce484222325;
  const auto add = [&hash](char byte) {
    hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
  };
  for (const char byte : peer) add(byte);
  add('\0');
  for (const char byte : key) add(byte);
  hash ^= hash >> 32;
  hash *= 0xd6e8feb86659fd93;
  return hash ^ hash >> 32;
}

}  // namespace

void SentKeys::Stamp(std::string_view peer, uint64_t memory,
                     CallExtras& extras) {
  if (memory == 0) return;
  const uint64_t hash = HashOf(peer, extras.idempotency_key);
  MutexLock lock(mutex_);
  const auto [entry, is_new] = keys_.try_emplace(hash);
  Key& key = entry->second;
  if (is_new) {
    key.number = ++last_number_;
    key.memory = memory;
    order_.push_back(hash);
  }
  extras.key_number = key.number;
  extras.memory = key.memory;
  extras.attempt = key.attempts++;
  if (order_.size() > max_keys_) {
    keys_.erase(order_.front());
    order_.pop_front();
  }
}

}  // namespace reprise

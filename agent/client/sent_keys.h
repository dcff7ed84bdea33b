// What an agent remembers of the idempotency keys that it has sent, so that
// each attempt says which call it belongs to: servers refuse a key that they
// may have forgotten, and tell it by this number.
//
// The last `kMaxKeys` keys are remembered, by their hash. A key that is sent
// again later than that is the key of another call.

#ifndef REPRISE_AGENT_CLIENT_SENT_KEYS_H_
#define REPRISE_AGENT_CLIENT_SENT_KEYS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "absl/base/thread_annotations.h"
#include "agent/runtime/fifo.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"
#include "agent/wire/call_extras.h"

namespace reprise {

// Thread-safe.
class SentKeys {
 public:
  static constexpr size_t kMaxKeys = size_t{1} << 18;

  explicit SentKeys(Runtime& runtime, size_t max_keys = kMaxKeys)
      : max_keys_(max_keys), mutex_(runtime, "SentKeys") {}

  // Sets the number, the memory and the attempt in `extras`, whose key is about
  // to be written to `peer`. `memory`: what the peer publishes; 0, of a peer
  // that does not number keys, sets nothing.
  void Stamp(std::string_view peer, uint64_t memory, CallExtras& extras);

 private:
  struct Key {
    uint64_t number = 0;
    uint64_t memory = 0;  // that it was first written to
    uint64_t attempts = 0;
  };

  const size_t max_keys_;
  Mutex mutex_;
  uint64_t last_number_ ABSL_GUARDED_BY(mutex_) = 0;
  // By the hash of the peer and the key. Two keys with one hash share a number:
  // the later one may be refused, and neither runs twice.
  std::unordered_map<uint64_t, Key> keys_ ABSL_GUARDED_BY(mutex_);
  Fifo<uint64_t> order_ ABSL_GUARDED_BY(mutex_);  // oldest first
};

}  // namespace reprise

#endif  // REPRISE_AGENT_CLIENT_SENT_KEYS_H_

// The store seam: the shared key-value store through which agents find each
// other and agree (names, addresses, barriers).
//
// Keys and values are arbitrary bytes. Every call takes an absolute deadline on
// the clock of the `Runtime` that the store was made with and returns
// DEADLINE_EXCEEDED once it has passed, UNAVAILABLE when the store cannot be
// reached and may come back, INVALID_ARGUMENT when content is not what the call
// needs (a counter that is not a number). Nothing in a store can crash a
// process.

#ifndef REPRISE_AGENT_STORE_STORE_H_
#define REPRISE_AGENT_STORE_STORE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace reprise {

// Thread-safe. Calls may block the calling thread until their deadline.
class Store {
 public:
  virtual ~Store() = default;

  virtual absl::Status Set(std::string_view key, std::string_view value,
                           absl::Time deadline) = 0;

  // Waits until `key` exists.
  virtual absl::StatusOr<std::string> Get(std::string_view key,
                                          absl::Time deadline) = 0;

  // Does not wait: NOT_FOUND when `key` does not exist.
  virtual absl::StatusOr<std::string> TryGet(std::string_view key,
                                             absl::Time deadline) = 0;

  // Atomically: if the value equals `expected`, or the key does not exist and
  // `expected` is empty, sets `desired` and returns it. Otherwise returns the
  // present value, or `expected` when the key does not exist.
  virtual absl::StatusOr<std::string> CompareSet(std::string_view key,
                                                 std::string_view expected,
                                                 std::string_view desired,
                                                 absl::Time deadline) = 0;

  // Atomically adds to a decimal counter that starts at 0; returns the sum.
  virtual absl::StatusOr<int64_t> Add(std::string_view key, int64_t delta,
                                      absl::Time deadline) = 0;

  // Returns whether the key existed.
  virtual absl::StatusOr<bool> Delete(std::string_view key,
                                      absl::Time deadline) = 0;
};

// A view of `store` in which every key is prefixed with `prefix` + "/".
std::shared_ptr<Store> MakePrefixStore(std::shared_ptr<Store> store,
                                       std::string prefix);

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_STORE_H_

// A cache of counters, as a service would have it: written with the threads,
// locks and clocks of std:: and absl:: alone. It knows nothing of the simulator
// or of the agent that carries its requests.
//
// Each node owns a shard of the counters (`CounterShard`) and has a cache of
// all of them (`CounterCache`), which asks the owners. A cached counter is
// fresh for `kFresh`; a thread of the cache drops those that are not.

#ifndef REPRISE_TESTS_SCENARIOS_CACHE_SERVICE_H_
#define REPRISE_TESTS_SCENARIOS_CACHE_SERVICE_H_

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <future>
#include <map>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace cache_service {

// Defects that a test can plant.
struct Defects {
  bool lost_update = false;  // `Add` reads and writes under two locks
  bool deadlock = false;     // two locks are taken in both orders
  bool race = false;         // `Add` holds its lock for readers only
};

// A counter and how often it was changed.
struct Counter {
  int64_t value = 0;
  int64_t version = 0;
};

// The counters that a node owns. Thread-safe.
class CounterShard {
 public:
  explicit CounterShard(Defects defects) : defects_(defects) {}

  Counter Read(const std::string& key) const;
  Counter Add(const std::string& key, int64_t amount);
  int64_t Sum() const;

 private:
  void Write(const std::string& key, Counter counter);

  const Defects defects_;
  mutable std::shared_mutex mutex_;
  std::map<std::string, Counter> counters_;
};

struct CacheStats {
  int64_t hits = 0;
  int64_t shared_fetches = 0;  // a reader waited for another's fetch
  int64_t fetches = 0;
  int64_t expired = 0;
  int64_t stale_replies = 0;  // a reply was older than what was cached
};

// Reads counters of all nodes. Thread-safe. The destructor waits for its
// threads, and nobody may read meanwhile.
class CounterCache {
 public:
  static constexpr std::chrono::milliseconds kFresh{20};

  // `fetch` asks the owner of a key, on a thread of the cache; nothing: the
  // owner did not answer.
  using Fetch = std::function<std::optional<Counter>(const std::string& key)>;

  CounterCache(Fetch fetch, int num_threads, Defects defects);
  ~CounterCache();

  // From the cache if it is fresh. Blocks while it is fetched.
  std::optional<Counter> Read(const std::string& key);

  // Fetches all of `keys` at once, and returns how many were there.
  int Warm(const std::vector<std::string>& keys);

  CacheStats stats() const;

 private:
  struct Entry {
    Counter counter;
    std::chrono::steady_clock::time_point fetched_at;
  };
  using Pending = std::shared_future<std::optional<Counter>>;

  std::optional<Counter> Fresh(const std::string& key);
  Pending StartFetch(const std::string& key);
  std::optional<Counter> FetchAndStore(const std::string& key);
  void Work();
  void Expire(const std::stop_token& stop);
  void DropExpired();
  void Count(int64_t CacheStats::*counter, int64_t amount = 1);

  const Fetch fetch_;
  const Defects defects_;

  std::shared_mutex entries_mutex_;
  std::map<std::string, Entry> entries_;

  // What the threads have to fetch.
  std::mutex queue_mutex_;
  std::condition_variable queue_changed_;
  std::deque<std::packaged_task<std::optional<Counter>()>> queue_;
  std::map<std::string, Pending> pending_;
  bool stopping_ = false;

  mutable absl::Mutex stats_mutex_;
  CacheStats stats_ ABSL_GUARDED_BY(stats_mutex_);

  std::vector<std::thread> workers_;
  std::mutex expire_mutex_;
  std::condition_variable_any expire_now_;
  std::jthread expirer_;
};

}  // namespace cache_service

#endif  // REPRISE_TESTS_SCENARIOS_CACHE_SERVICE_H_

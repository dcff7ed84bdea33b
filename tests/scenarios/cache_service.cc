#include "tests/scenarios/cache_service.h"

#include <algorithm>
#include <utility>

namespace cache_service {

using Clock = std::chrono::steady_clock;

Counter CounterShard::Read(const std::string& key) const {
  const std::shared_lock lock(mutex_);
  const auto it = counters_.find(key);
  return it == counters_.end() ? Counter() : it->second;
}

void CounterShard::Write(const std::string& key, Counter counter) {
  const std::unique_lock lock(mutex_);
  counters_[key] = counter;
}

Counter CounterShard::Add(const std::string& key, int64_t amount) {
  if (defects_.lost_update) {
    Counter counter = Read(key);
    counter.value += amount;
    ++counter.version;
    Write(key, counter);
    return counter;
  }
  std::shared_lock for_readers(mutex_, std::defer_lock);
  std::unique_lock for_writers(mutex_, std::defer_lock);
  if (defects_.race) {
    for_readers.lock();
  } else {
    for_writers.lock();
  }
  Counter& counter = counters_[key];
  counter.value += amount;
  ++counter.version;
  return counter;
}

int64_t CounterShard::Sum() const {
  const std::shared_lock lock(mutex_);
  int64_t sum = 0;
  for (const auto& [key, counter] : counters_) sum += counter.value;
  return sum;
}

CounterCache::CounterCache(Fetch fetch, int num_threads, Defects defects)
    : fetch_(std::move(fetch)), defects_(defects) {
  for (int i = 0; i < num_threads; ++i) {
    workers_.emplace_back([this] { Work(); });
  }
  expirer_ =
      std::jthread([this](const std::stop_token& stop) { Expire(stop); });
}

CounterCache::~CounterCache() {
  expirer_.request_stop();
  {
    const std::lock_guard lock(queue_mutex_);
    stopping_ = true;
  }
  queue_changed_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

std::optional<Counter> CounterCache::Read(const std::string& key) {
  if (std::optional<Counter> counter = Fresh(key)) return counter;
  return StartFetch(key).get();
}

std::optional<Counter> CounterCache::Fresh(const std::string& key) {
  const std::shared_lock lock(entries_mutex_);
  const auto it = entries_.find(key);
  if (it == entries_.end() || Clock::now() - it->second.fetched_at > kFresh) {
    return std::nullopt;
  }
  Count(&CacheStats::hits);
  return it->second.counter;
}

// Readers of one key share one fetch.
CounterCache::Pending CounterCache::StartFetch(const std::string& key) {
  const std::lock_guard lock(queue_mutex_);
  if (defects_.deadlock) {
    // One order: the queue, then the entries.
    if (std::optional<Counter> counter = Fresh(key)) {
      std::promise<std::optional<Counter>> promise;
      promise.set_value(counter);
      return promise.get_future().share();
    }
  }
  const auto it = pending_.find(key);
  if (it != pending_.end()) {
    Count(&CacheStats::shared_fetches);
    return it->second;
  }
  std::packaged_task<std::optional<Counter>()> task(
      [this, key] { return FetchAndStore(key); });
  Pending pending = task.get_future().share();
  pending_.emplace(key, pending);
  queue_.push_back(std::move(task));
  queue_changed_.notify_one();
  return pending;
}

std::optional<Counter> CounterCache::FetchAndStore(const std::string& key) {
  const std::optional<Counter> counter = fetch_(key);
  Count(&CacheStats::fetches);
  if (counter) {
    const std::unique_lock lock(entries_mutex_);
    if (defects_.deadlock) {
      // The other order: the entries, then the queue, and something slow
      // between them.
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      const std::lock_guard queue_lock(queue_mutex_);
      pending_.erase(key);
    }
    const auto [it, is_new] = entries_.try_emplace(key);
    if (is_new || counter->version >= it->second.counter.version) {
      it->second = {*counter, Clock::now()};
    } else {
      Count(&CacheStats::stale_replies);
    }
  }
  const std::lock_guard lock(queue_mutex_);
  pending_.erase(key);
  return counter;
}

void CounterCache::Work() {
  for (;;) {
    std::unique_lock lock(queue_mutex_);
    queue_changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    std::packaged_task<std::optional<Counter>()> task =
        std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    task();
  }
}

int CounterCache::Warm(const std::vector<std::string>& keys) {
  std::vector<std::future<bool>> reads;
  reads.reserve(keys.size());
  for (const std::string& key : keys) {
    reads.push_back(std::async(std::launch::async,
                               [this, &key] { return Read(key).has_value(); }));
  }
  return static_cast<int>(
      std::count_if(reads.begin(), reads.end(),
                    [](std::future<bool>& read) { return read.get(); }));
}

void CounterCache::Expire(const std::stop_token& stop) {
  std::unique_lock lock(expire_mutex_);
  while (!stop.stop_requested()) {
    expire_now_.wait_for(lock, stop, kFresh / 2, [] { return false; });
    DropExpired();
  }
}

void CounterCache::DropExpired() {
  const Clock::time_point now = Clock::now();
  const std::unique_lock lock(entries_mutex_);
  const auto expired = std::erase_if(entries_, [&](const auto& entry) {
    return now - entry.second.fetched_at > kFresh;
  });
  Count(&CacheStats::expired, static_cast<int64_t>(expired));
}

void CounterCache::Count(int64_t CacheStats::*counter, int64_t amount) {
  const absl::MutexLock lock(&stats_mutex_);
  stats_.*counter += amount;
}

CacheStats CounterCache::stats() const {
  const absl::MutexLock lock(&stats_mutex_);
  return stats_;
}

}  // namespace cache_service

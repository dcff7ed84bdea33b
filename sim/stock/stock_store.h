// The world's store as PyTorch's agent sees it.

#ifndef REPRISE_SIM_STOCK_STOCK_STORE_H_
#define REPRISE_SIM_STOCK_STOCK_STORE_H_

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <vector>

#include "absl/time/time.h"
#include "agent/runtime/runtime.h"
#include "agent/store/store.h"

namespace reprise {

// Thread-safe. Errors are c10::Error with the text of the status.
class StockStore : public c10d::Store {
 public:
  // `timeout` bounds each access. With `own_barrier_numbers`, the number of
  // each key "..._ID_<n>" is replaced by the order in which this view has first
  // seen it, from 1: PyTorch counts barriers in a static of the process, and a
  // simulated world is one process.
  StockStore(std::shared_ptr<reprise::Store> store, Runtime& runtime,
             std::chrono::milliseconds timeout, bool own_barrier_numbers);

  void set(const std::string& key, const std::vector<uint8_t>& value) override;
  std::vector<uint8_t> compareSet(const std::string& key,
                                  const std::vector<uint8_t>& expected,
                                  const std::vector<uint8_t>& desired) override;
  std::vector<uint8_t> get(const std::string& key) override;
  int64_t add(const std::string& key, int64_t delta) override;
  bool deleteKey(const std::string& key) override;
  bool check(const std::vector<std::string>& keys) override;
  // Never called by the agent, and not supported.
  int64_t getNumKeys() override;
  void wait(const std::vector<std::string>& keys) override;
  void wait(const std::vector<std::string>& keys,
            const std::chrono::milliseconds& timeout) override;

 private:
  absl::Time Deadline(std::chrono::milliseconds timeout);
  std::string KeyOf(const std::string& key);

  const std::shared_ptr<reprise::Store> backend_;
  Runtime& runtime_;
  const bool own_barrier_numbers_;
  std::mutex mutex_;
  std::map<std::string, int> barriers_;  // PyTorch's number; ours
};

}  // namespace reprise

#endif  // REPRISE_SIM_STOCK_STOCK_STORE_H_

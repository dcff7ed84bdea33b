#include "sim/stock/stock_store.h"

#include <c10/util/Exception.h>

#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace reprise {
namespace {

std::string_view ToText(const std::vector<uint8_t>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::vector<uint8_t> ToBytes(std::string_view text) {
  return {text.begin(), text.end()};
}

void ThrowUnlessOk(const absl::Status& status, const std::string& key) {
  TORCH_CHECK(status.ok(), "store: ", key, ": ", status.ToString());
}

template <typename Value>
Value ValueOrThrow(absl::StatusOr<Value> value, const std::string& key) {
  ThrowUnlessOk(value.status(), key);
  return *std::move(value);
}

}  // namespace

StockStore::StockStore(std::shared_ptr<reprise::Store> store, Runtime& runtime,
                       std::chrono::milliseconds timeout,
                       bool own_barrier_numbers)
    : c10d::Store(timeout),
      backend_(std::move(store)),
      runtime_(runtime),
      own_barrier_numbers_(own_barrier_numbers) {}

absl::Time StockStore::Deadline(std::chrono::milliseconds timeout) {
  return timeout == kNoTimeout
             ? absl::InfiniteFuture()
             : runtime_.Now() + absl::Milliseconds(timeout.count());
}

std::string StockStore::KeyOf(const std::string& key) {
  constexpr std::string_view kMark = "_ID_";
  const size_t mark = key.find(kMark);
  if (!own_barrier_numbers_ || mark == std::string::npos) return key;
  const size_t begin = mark + kMark.size();
  const size_t end = key.find_first_not_of("0123456789", begin);
  const std::string rest = end == std::string::npos ? "" : key.substr(end);
  const std::lock_guard<std::mutex> lock(mutex_);
  const int next = static_cast<int>(barriers_.size()) + 1;
  const auto [number, is_new] =
      barriers_.emplace(key.substr(begin, end - begin), next);
  return key.substr(0, begin) + std::to_string(number->second) + rest;
}

void StockStore::set(const std::string& key,
                     const std::vector<uint8_t>& value) {
  ThrowUnlessOk(backend_->Set(KeyOf(key), ToText(value), Deadline(timeout_)),
                key);
}

std::vector<uint8_t> StockStore::compareSet(
    const std::string& key, const std::vector<uint8_t>& expected,
    const std::vector<uint8_t>& desired) {
  return ToBytes(
      ValueOrThrow(backend_->CompareSet(KeyOf(key), ToText(expected),
                                        ToText(desired), Deadline(timeout_)),
                   key));
}

std::vector<uint8_t> StockStore::get(const std::string& key) {
  return ToBytes(
      ValueOrThrow(backend_->Get(KeyOf(key), Deadline(timeout_)), key));
}

int64_t StockStore::add(const std::string& key, int64_t delta) {
  return ValueOrThrow(backend_->Add(KeyOf(key), delta, Deadline(timeout_)),
                      key);
}

bool StockStore::deleteKey(const std::string& key) {
  return ValueOrThrow(backend_->Delete(KeyOf(key), Deadline(timeout_)), key);
}

bool StockStore::check(const std::vector<std::string>& keys) {
  for (const std::string& key : keys) {
    const absl::Status status =
        backend_->TryGet(KeyOf(key), Deadline(timeout_)).status();
    if (absl::IsNotFound(status)) return false;
    ThrowUnlessOk(status, key);
  }
  return true;
}

int64_t StockStore::getNumKeys() {
  TORCH_CHECK(false, "the store of a simulated world does not count its keys");
}

void StockStore::wait(const std::vector<std::string>& keys) {
  wait(keys, timeout_);
}

void StockStore::wait(const std::vector<std::string>& keys,
                      const std::chrono::milliseconds& timeout) {
  const absl::Time deadline = Deadline(timeout);
  for (const std::string& key : keys) {
    ThrowUnlessOk(backend_->Get(KeyOf(key), deadline).status(), key);
  }
}

}  // namespace reprise

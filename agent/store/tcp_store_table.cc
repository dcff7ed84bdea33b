#include "agent/store/tcp_store_table.h"

#include <errno.h>
#include <stdlib.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/store/store_status.h"

namespace reprise {
namespace {

using Query = TcpStoreQuery;

using Change = TcpStoreWaits::Change;

// A counter as PyTorch's server reads it, by the C library: blanks may come
// before the number, and anything after it.
bool ReadCounter(const std::string& text, int64_t& number) {
  char* end = nullptr;
  errno = 0;
  number = strtoll(text.c_str(), &end, 10);
  return end != text.c_str() && errno == 0;
}

// Wraps around, as PyTorch's server does.
int64_t Sum(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) +
                              static_cast<uint64_t>(b));
}

absl::Status NoKey(const std::string& key) {
  return absl::NotFoundError(
      absl::StrCat("it asks for the key ", PrintableKey(key),
                   ", which is not there, without waiting for it"));
}

absl::Status TooLong(size_t size) {
  return absl::ResourceExhaustedError(
      absl::StrCat("it asks for ", size, " bytes in one answer, and ",
                   kMaxTcpStoreAnswerBytes, " is the limit"));
}

}  // namespace

absl::Status TcpStoreTable::Handle(Client client, TcpStoreRequest request) {
  std::vector<std::string>& keys = request.keys;
  switch (request.query) {
    case Query::kSet:
      return PutAndWake(keys[0], std::move(request.values[0]));
    case Query::kMultiSet:
      for (size_t i = 0; i < keys.size(); ++i) {
        absl::Status status = PutAndWake(keys[i], std::move(request.values[i]));
        if (!status.ok()) return status;
      }
      return absl::OkStatus();
    case Query::kCompareSet:
      return CompareSet(client, request);
    case Query::kGet:
    case Query::kMultiGet:
      return Get(client, keys);
    case Query::kAdd:
      return Add(client, request);
    case Query::kCheck:
      send_(client, std::string(1, AreThere(keys) ? kTcpStoreReady
                                                  : kTcpStoreNotReady));
      return absl::OkStatus();
    case Query::kWait:
      return WaitFor(client, std::move(keys));
    case Query::kNumKeys:
      SendNumber(client, values_.size(), 8);
      return absl::OkStatus();
    case Query::kWatchKey:
      return waits_.Watch(client, std::move(keys[0]));
    case Query::kDelete:
      Delete(client, keys[0]);
      return absl::OkStatus();
    case Query::kAppend:
      return Append(keys[0], request.values[0]);
    case Query::kCancelWait:
      waits_.End(client);
      send_(client, std::string(1, kTcpStoreWaitCanceled));
      return absl::OkStatus();
    case Query::kPing:
      SendNumber(client, request.number, 4);
      return absl::OkStatus();
    case Query::kQueuePush:
      return Push(keys[0], std::move(request.values[0]));
    case Query::kQueuePop:
      return Pop(client, keys[0]);
    case Query::kQueueLength: {
      const auto queue = queues_.find(keys[0]);
      SendNumber(client, queue == queues_.end() ? 0 : queue->second.size(), 8);
      return absl::OkStatus();
    }
    case Query::kListKeys:
      return ListKeys(client);
    case Query::kBarrier:
      return Barrier(client, request);
  }
  return absl::InternalError("no such query");
}

absl::Status TcpStoreTable::CompareSet(Client client,
                                       TcpStoreRequest& request) {
  const std::string& key = request.keys[0];
  const std::string& expected = request.values[0];
  const auto found = values_.find(key);
  const bool is_there = found != values_.end();
  if (is_there ? found->second == expected : expected.empty()) {
    absl::Status status = PutAndWake(key, std::move(request.values[1]));
    if (!status.ok()) return status;
    return Get(client, request.keys);
  }
  std::string answer;
  AppendTcpStoreString(answer, is_there ? found->second : expected);
  send_(client, std::move(answer));
  return absl::OkStatus();
}

absl::Status TcpStoreTable::Get(Client client,
                                const std::vector<std::string>& keys) {
  // Many keys, or one of them many times, may be more than memory holds.
  size_t size = 0;
  for (const std::string& key : keys) {
    const auto found = values_.find(key);
    if (found == values_.end()) return NoKey(key);
    size += 8 + found->second.size();
  }
  if (size > kMaxTcpStoreAnswerBytes) return TooLong(size);
  std::string answer;
  answer.reserve(size);
  for (const std::string& key : keys) {
    AppendTcpStoreString(answer, values_.find(key)->second);
  }
  // A MULTI_GET of no keys has no answer.
  if (!answer.empty()) send_(client, std::move(answer));
  return absl::OkStatus();
}

absl::Status TcpStoreTable::Add(Client client, TcpStoreRequest& request) {
  const std::string& key = request.keys[0];
  int64_t number = 0;
  if (const auto found = values_.find(key);
      found != values_.end() && !ReadCounter(found->second, number)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "it adds to the key ", PrintableKey(key),
        ", whose value is not a number: ", PrintableKey(found->second)));
  }
  const int64_t sum = Sum(number, static_cast<int64_t>(request.number));
  absl::Status status = PutAndWake(key, absl::StrCat(sum));
  if (status.ok()) SendNumber(client, static_cast<uint64_t>(sum), 8);
  return status;
}

absl::Status TcpStoreTable::WaitFor(Client client,
                                    std::vector<std::string> keys) {
  waits_.End(client);
  std::set<std::string> missing;
  for (std::string& key : keys) {
    if (!IsThere(key)) missing.insert(std::move(key));
  }
  if (!missing.empty()) return waits_.Start(client, std::move(missing));
  send_(client, std::string(1, kTcpStoreStopWaiting));
  return absl::OkStatus();
}

absl::Status TcpStoreTable::Append(const std::string& key,
                                   std::string_view more) {
  const auto found = values_.find(key);
  if (found == values_.end()) return PutAndWake(key, std::string(more));
  // A value that was appended to must fit an answer.
  const size_t size = found->second.size() + more.size();
  if (size > kMaxTcpStoreAnswerBytes - 8) return TooLong(size);
  absl::Status status = budget_.Reserve(more.size());
  if (!status.ok()) return status;
  std::string before;
  if (waits_.IsWatched(key)) before = found->second;
  found->second.append(more);
  waits_.TellWatchers(key, Change::kUpdated, before, found->second);
  waits_.Wake(key, /*one=*/false);
  return absl::OkStatus();
}

absl::Status TcpStoreTable::Push(const std::string& key, std::string value) {
  absl::Status status =
      budget_.Reserve(key.size() + value.size() + 2 * kTcpStoreEntryBytes);
  if (!status.ok()) return status;
  queues_[key].push_back(std::move(value));
  waits_.Wake(key, /*one=*/true);
  return absl::OkStatus();
}

absl::Status TcpStoreTable::Pop(Client client, const std::string& key) {
  const auto queue = queues_.find(key);
  if (queue == queues_.end()) {
    SendNumber(client, 0, 8);
    return absl::OkStatus();
  }
  std::string answer;
  AppendLittleEndian(answer, queue->second.size(), 8);
  AppendTcpStoreString(answer, queue->second.front());
  budget_.Release(key.size() + queue->second.front().size() +
                  2 * kTcpStoreEntryBytes);
  queue->second.pop_front();
  if (queue->second.empty()) queues_.erase(queue);
  send_(client, std::move(answer));
  return absl::OkStatus();
}

// The last member to come ends the waits of the others. A count that has been
// reached stays, so a key serves one barrier.
absl::Status TcpStoreTable::Barrier(Client client, TcpStoreRequest& request) {
  const std::string& key = request.keys[0];
  int64_t count = 0;
  if (const auto found = values_.find(key);
      found != values_.end() && !ReadCounter(found->second, count)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the key ", PrintableKey(key), " is not a barrier"));
  }
  count = Sum(count, 1);
  waits_.End(client);
  const bool is_last = count >= static_cast<int64_t>(request.number);
  // First, so that nobody is counted who cannot wait.
  if (!is_last) {
    absl::Status status = waits_.Start(client, {key});
    if (!status.ok()) return status;
  }
  absl::Status status = Put(key, absl::StrCat(count));
  if (!status.ok() || !is_last) return status;
  waits_.Wake(key, /*one=*/false);
  send_(client, std::string(1, kTcpStoreStopWaiting));
  return absl::OkStatus();
}

absl::Status TcpStoreTable::ListKeys(Client client) {
  size_t size = 8;
  for (const auto& [key, value] : values_) size += 8 + key.size();
  if (size > kMaxTcpStoreAnswerBytes) return TooLong(size);
  std::string answer;
  answer.reserve(size);
  AppendLittleEndian(answer, values_.size(), 8);
  for (const auto& [key, value] : values_) AppendTcpStoreString(answer, key);
  send_(client, std::move(answer));
  return absl::OkStatus();
}

void TcpStoreTable::Delete(Client client, const std::string& key) {
  const auto found = values_.find(key);
  const bool is_there = found != values_.end();
  if (is_there) {
    waits_.TellWatchers(key, Change::kDeleted, found->second, "");
    budget_.Release(key.size() + found->second.size() + kTcpStoreEntryBytes);
    values_.erase(found);
  }
  SendNumber(client, is_there ? 1 : 0, 8);
}

absl::Status TcpStoreTable::Put(const std::string& key, std::string value) {
  const auto found = values_.find(key);
  if (found == values_.end()) {
    absl::Status status =
        budget_.Reserve(key.size() + value.size() + kTcpStoreEntryBytes);
    if (!status.ok()) return status;
    const auto made = values_.emplace(key, std::move(value)).first;
    waits_.TellWatchers(key, Change::kCreated, "", made->second);
    return absl::OkStatus();
  }
  if (value.size() > found->second.size()) {
    absl::Status status = budget_.Reserve(value.size() - found->second.size());
    if (!status.ok()) return status;
  } else {
    budget_.Release(found->second.size() - value.size());
  }
  found->second.swap(value);
  waits_.TellWatchers(key, Change::kUpdated, value, found->second);
  return absl::OkStatus();
}

absl::Status TcpStoreTable::PutAndWake(const std::string& key,
                                       std::string value) {
  absl::Status status = Put(key, std::move(value));
  if (status.ok()) waits_.Wake(key, /*one=*/false);
  return status;
}

bool TcpStoreTable::IsThere(const std::string& key) const {
  return values_.count(key) != 0 || queues_.count(key) != 0;
}

bool TcpStoreTable::AreThere(const std::vector<std::string>& keys) const {
  return std::all_of(keys.begin(), keys.end(),
                     [this](const std::string& key) { return IsThere(key); });
}

void TcpStoreTable::SendNumber(Client client, uint64_t number, int size) {
  std::string answer;
  AppendLittleEndian(answer, number, size);
  send_(client, std::move(answer));
}

}  // namespace reprise

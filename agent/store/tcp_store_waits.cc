#include "agent/store/tcp_store_waits.h"

#include "absl/strings/str_cat.h"
#include "agent/store/tcp_store_protocol.h"

namespace reprise {
namespace {

size_t SizeOf(const std::string& key) {
  return key.size() + kTcpStoreEntryBytes;
}

size_t SizeOf(const std::set<std::string>& keys) {
  size_t size = 0;
  for (const std::string& key : keys) size += SizeOf(key);
  return size;
}

}  // namespace

absl::Status ByteBudget::Reserve(size_t bytes) {
  if (bytes > max_ - used_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the store is full: it holds ", used_, " bytes of ", max_,
                     ", and this takes ", bytes, " more"));
  }
  used_ += bytes;
  return absl::OkStatus();
}

absl::Status TcpStoreWaits::Start(Client client,
                                  std::set<std::string> missing) {
  End(client);
  absl::Status status = budget_.Reserve(SizeOf(missing));
  if (!status.ok()) return status;
  const uint64_t ticket = next_ticket_++;
  // If memory ends here, the client is forgotten, and that finds what is there.
  const Wait& wait = waits_[client] = {ticket, std::move(missing)};
  for (const std::string& key : wait.missing) {
    waiting_for_[key][ticket] = client;
  }
  return absl::OkStatus();
}

void TcpStoreWaits::End(Client client) {
  const auto wait = waits_.find(client);
  if (wait == waits_.end()) return;
  budget_.Release(SizeOf(wait->second.missing));
  for (const std::string& key : wait->second.missing) {
    const auto waiting = waiting_for_.find(key);
    if (waiting == waiting_for_.end()) continue;
    waiting->second.erase(wait->second.ticket);
    if (waiting->second.empty()) waiting_for_.erase(waiting);
  }
  waits_.erase(wait);
}

void TcpStoreWaits::Wake(const std::string& key, bool one) {
  const auto waiting = waiting_for_.find(key);
  if (waiting == waiting_for_.end()) return;
  std::map<uint64_t, Client>& clients = waiting->second;
  bool go_on = true;
  while (go_on && !clients.empty()) {
    const Client client = clients.begin()->second;
    clients.erase(clients.begin());
    const auto wait = waits_.find(client);
    wait->second.missing.erase(key);
    budget_.Release(SizeOf(key));
    if (!wait->second.missing.empty()) continue;
    waits_.erase(wait);
    send_(client, std::string(1, kTcpStoreStopWaiting));
    go_on = !one;
  }
  if (clients.empty()) waiting_for_.erase(waiting);
}

absl::Status TcpStoreWaits::Watch(Client client, std::string key) {
  const auto watches = watches_.find(client);
  if (watches == watches_.end() || watches->second.count(key) == 0) {
    absl::Status status = budget_.Reserve(SizeOf(key));
    if (!status.ok()) return status;
    watchers_[key].insert(client);
    watches_[client].insert(std::move(key));
  }
  send_(client, std::string(1, kTcpStoreWatchRegistered));
  return absl::OkStatus();
}

void TcpStoreWaits::TellWatchers(const std::string& key, Change change,
                                 std::string_view before,
                                 std::string_view after) {
  const auto watchers = watchers_.find(key);
  if (watchers == watchers_.end()) return;
  std::string news(1, static_cast<char>(change));
  AppendTcpStoreString(news, key);
  AppendTcpStoreString(news, before);
  AppendTcpStoreString(news, after);
  for (const Client client : watchers->second) send_(client, news);
}

void TcpStoreWaits::Forget(Client client) {
  End(client);
  const auto watches = watches_.find(client);
  if (watches == watches_.end()) return;
  budget_.Release(SizeOf(watches->second));
  for (const std::string& key : watches->second) {
    const auto watchers = watchers_.find(key);
    if (watchers == watchers_.end()) continue;
    watchers->second.erase(client);
    if (watchers->second.empty()) watchers_.erase(watchers);
  }
  watches_.erase(watches);
}

}  // namespace reprise

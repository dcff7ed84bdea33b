#include "agent/store/tcp_store_connection.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "agent/store/server_store.h"

namespace reprise {
namespace {

constexpr char kValidate = 0;
// A server of protocol 1 reads the eight bytes after the opcode as the length
// of a key. The magic is their lower half, and this many queries of one byte
// are their upper half. No machine has so much memory, so the server closes the
// connection at once.
constexpr int kProbeQueries = 4;
constexpr absl::Duration kLongestProbe = absl::Seconds(3);

// The numbers of the queries, in the order of `Query`.
constexpr char kQueries1[] = {0, 1, 2, 3, 4, 6, 8};
constexpr char kQueries2[] = {1, 2, 3, 4, 5, 7, 8};

absl::Status NotTcpStore(std::string_view what) {
  return absl::UnavailableError(
      absl::StrCat("tcp store: the server does not speak TCPStore's protocol: ",
                   std::string(what)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<TcpStoreConnection>> TcpStoreConnection::Open(
    Runtime& runtime, const StoreUrl& url, TcpStoreProtocol protocol,
    absl::Time deadline) {
  absl::StatusOr<TcpSocket> socket =
      TcpSocket::Connect(runtime, url.host, url.port, deadline);
  if (!socket.ok()) return socket.status();
  std::unique_ptr<TcpStoreConnection> connection(
      new TcpStoreConnection(*std::move(socket), protocol));
  if (protocol == TcpStoreProtocol::k2) {
    std::string handshake(1, kValidate);
    AppendLittleEndian(handshake, kTcpStoreMagic, 4);
    absl::Status status = connection->Send(handshake, deadline);
    if (!status.ok()) return status;
  }
  return connection;
}

absl::StatusOr<std::unique_ptr<TcpStoreConnection>>
TcpStoreConnection::Discover(Runtime& runtime, const StoreUrl& url,
                             absl::Time deadline) {
  auto probed = Probe(runtime, url, TcpStoreProtocol::k2, deadline);
  // UNAVAILABLE means that the server closed the connection or that it cannot
  // be reached. In the latter case, the second probe says so.
  if (!absl::IsUnavailable(probed.status())) return probed;
  return Probe(runtime, url, TcpStoreProtocol::k1, deadline);
}

absl::Status TcpStoreConnection::Diagnose(Runtime& runtime, const StoreUrl& url,
                                          TcpStoreProtocol protocol,
                                          absl::Time deadline) {
  const bool told_2 = protocol == TcpStoreProtocol::k2;
  const auto other =
      Probe(runtime, url, told_2 ? TcpStoreProtocol::k1 : TcpStoreProtocol::k2,
            std::min(deadline, runtime.Now() + kLongestProbe));
  if (!other.ok()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "tcp store: the server at ", url.host, " port ", url.port,
      " speaks protocol ", told_2 ? 1 : 2, ", and its URL says ?protocol=",
      told_2 ? 2 : 1, ": correct the option or leave it out"));
}

absl::StatusOr<std::unique_ptr<TcpStoreConnection>> TcpStoreConnection::Probe(
    Runtime& runtime, const StoreUrl& url, TcpStoreProtocol protocol,
    absl::Time deadline) {
  auto connection = Open(runtime, url, protocol, deadline);
  if (!connection.ok()) return connection.status();
  std::string queries;
  for (int i = 0; i < kProbeQueries; ++i) {
    queries += (*connection)->Begin(Query::kNumKeys);
  }
  absl::Status status = (*connection)->Send(queries, deadline);
  if (!status.ok()) return status;
  for (int i = 0; i < kProbeQueries; ++i) {
    const auto number = (*connection)->ReceiveNumber(deadline);
    if (!number.ok()) return number.status();
    if (*number < 0) return NotTcpStore("a negative number of keys");
  }
  return connection;
}

absl::Status TcpStoreConnection::Set(std::string_view key,
                                     std::string_view value,
                                     absl::Time deadline) {
  std::string bytes = Begin(Query::kSet);
  AppendTcpStoreString(bytes, key);
  AppendTcpStoreString(bytes, value);
  bytes += Begin(Query::kCheck);
  AppendLittleEndian(bytes, 1, 8);
  AppendTcpStoreString(bytes, key);
  absl::Status status = Finish(Send(bytes, deadline));
  if (!status.ok()) return status;
  return Finish(ReceiveReady(deadline)).status();
}

absl::StatusOr<bool> TcpStoreConnection::Check(std::string_view key,
                                               absl::Time deadline) {
  std::string bytes = Begin(Query::kCheck);
  AppendLittleEndian(bytes, 1, 8);
  AppendTcpStoreString(bytes, key);
  absl::Status status = Finish(Send(bytes, deadline));
  if (!status.ok()) return status;
  return Finish(ReceiveReady(deadline));
}

absl::StatusOr<std::string> TcpStoreConnection::Get(std::string_view key,
                                                    absl::Time deadline) {
  std::string bytes = Begin(Query::kGet);
  AppendTcpStoreString(bytes, key);
  absl::Status status = Finish(Send(bytes, deadline));
  if (!status.ok()) return status;
  return Finish(ReceiveString(deadline));
}

absl::StatusOr<std::string> TcpStoreConnection::CompareSet(
    std::string_view key, std::string_view expected, std::string_view desired,
    absl::Time deadline) {
  std::string bytes = Begin(Query::kCompareSet);
  AppendTcpStoreString(bytes, key);
  AppendTcpStoreString(bytes, expected);
  AppendTcpStoreString(bytes, desired);
  absl::Status status = Finish(Send(bytes, deadline));
  if (!status.ok()) return status;
  return Finish(ReceiveString(deadline));
}

absl::StatusOr<int64_t> TcpStoreConnection::Add(std::string_view key,
                                                int64_t delta,
                                                absl::Time deadline) {
  std::string bytes = Begin(Query::kAdd);
  AppendTcpStoreString(bytes, key);
  AppendLittleEndian(bytes, static_cast<uint64_t>(delta), 8);
  absl::Status status = Finish(Send(bytes, deadline));
  if (!status.ok()) return status;
  return Finish(ReceiveNumber(deadline));
}

absl::StatusOr<int64_t> TcpStoreConnection::Delete(std::string_view key,
                                                   absl::Time deadline) {
  std::string bytes = Begin(Query::kDelete);
  AppendTcpStoreString(bytes, key);
  absl::Status status = Finish(Send(bytes, deadline));
  if (!status.ok()) return status;
  return Finish(ReceiveNumber(deadline));
}

std::string TcpStoreConnection::Begin(Query query) const {
  const auto index = static_cast<size_t>(query);
  return std::string(1, protocol_ == TcpStoreProtocol::k2 ? kQueries2[index]
                                                          : kQueries1[index]);
}

absl::Status TcpStoreConnection::Send(std::string_view bytes,
                                      absl::Time deadline) {
  return socket_.Write(bytes, deadline);
}

absl::StatusOr<std::string> TcpStoreConnection::Receive(size_t size,
                                                        absl::Time deadline) {
  while (received_.size() < size) {
    absl::Status status = socket_.ReadSome(received_, deadline);
    if (!status.ok()) return status;
    socket_.set_answer_timeout(TcpSocket::kAnswerTimeout);
  }
  std::string bytes = received_.substr(0, size);
  received_.erase(0, size);
  return bytes;
}

absl::StatusOr<int64_t> TcpStoreConnection::ReceiveNumber(absl::Time deadline) {
  const absl::StatusOr<std::string> bytes = Receive(8, deadline);
  if (!bytes.ok()) return bytes.status();
  return static_cast<int64_t>(LittleEndian(*bytes));
}

absl::StatusOr<std::string> TcpStoreConnection::ReceiveString(
    absl::Time deadline) {
  const absl::StatusOr<int64_t> size = ReceiveNumber(deadline);
  if (!size.ok()) return size.status();
  if (static_cast<uint64_t>(*size) > kMaxServerStoreValueBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("tcp store: a value of more than ",
                     kMaxServerStoreValueBytes, " bytes"));
  }
  return Receive(static_cast<size_t>(*size), deadline);
}

absl::StatusOr<bool> TcpStoreConnection::ReceiveReady(absl::Time deadline) {
  const absl::StatusOr<std::string> answer = Receive(1, deadline);
  if (!answer.ok()) return answer.status();
  if ((*answer)[0] == kTcpStoreReady) return true;
  if ((*answer)[0] == kTcpStoreNotReady) return false;
  return NotTcpStore("neither ready nor not ready");
}

}  // namespace reprise

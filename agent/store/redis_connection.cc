#include "agent/store/redis_connection.h"

#include <hiredis/hiredis.h>

#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "agent/store/server_store.h"

namespace reprise {
namespace {

constexpr size_t kMaxPrintedBytes = 200;
// Beside the value, a reply has its type, its length and ends of lines.
constexpr size_t kMaxReplyBytes = kMaxServerStoreValueBytes + 64;

void* NewReply(RedisReply::Kind kind, int64_t integer, std::string text) {
  return new RedisReply{kind, integer, std::move(text)};
}

void* NewString(const redisReadTask* task, char* text, size_t size) {
  RedisReply::Kind kind = RedisReply::Kind::kString;
  if (task->type == REDIS_REPLY_STATUS) kind = RedisReply::Kind::kStatus;
  if (task->type == REDIS_REPLY_ERROR) kind = RedisReply::Kind::kError;
  return NewReply(kind, 0, std::string(text, size));
}
// None of our commands is answered with an array, and a server must not make us
// reserve as many elements as it likes. hiredis reports the null as a lack of
// memory.
void* NewArray(const redisReadTask*, int) { return nullptr; }
// NOLINTNEXTLINE(google-runtime-int): the type of hiredis
void* NewInteger(const redisReadTask*, long long number) {
  return NewReply(RedisReply::Kind::kInteger, number, "");
}
void* NewNil(const redisReadTask*) {
  return NewReply(RedisReply::Kind::kNil, 0, "");
}
void FreeReply(void* reply) { delete static_cast<RedisReply*>(reply); }

redisReplyObjectFunctions reply_functions = {NewString, NewArray, NewInteger,
                                             NewNil, FreeReply};

std::string CodeOf(std::string_view server_text) {
  return std::string(server_text.substr(0, server_text.find(' ')));
}

}  // namespace

absl::Status RedisError(std::string_view what, std::string_view server_text) {
  const std::string code = CodeOf(server_text);
  const std::string server(server_text);
  const std::string text = absl::StrCat(
      "redis store: ", std::string(what), ": the server says: ",
      absl::CHexEscape(std::string(server_text.substr(0, kMaxPrintedBytes))));
  if (code == "WRONGTYPE" || absl::StrContains(server, "not an integer") ||
      absl::StrContains(server, "would overflow")) {
    return absl::InvalidArgumentError(text);
  }
  if (code == "NOAUTH" || code == "WRONGPASS") {
    return absl::UnauthenticatedError(text);
  }
  if (code == "NOPERM") return absl::PermissionDeniedError(text);
  if (code == "OOM" || code == "MISCONF") {
    return absl::ResourceExhaustedError(text);
  }
  for (const char* passing : {"LOADING", "BUSY", "TRYAGAIN", "MASTERDOWN",
                              "CLUSTERDOWN", "READONLY", "NOREPLICAS"}) {
    if (code == passing) return absl::UnavailableError(text);
  }
  if (absl::StrContains(server, "max number of clients")) {
    return absl::UnavailableError(text);
  }
  return absl::InternalError(text);
}

void RedisConnection::FreeReader::operator()(redisReader* reader) const {
  redisReaderFree(reader);
}

RedisConnection::RedisConnection(TcpSocket socket, redisReader* reader)
    : socket_(std::move(socket)), reader_(reader) {}

RedisConnection::~RedisConnection() = default;

absl::StatusOr<std::unique_ptr<RedisConnection>> RedisConnection::Open(
    Runtime& runtime, const StoreUrl& url, int database, absl::Time deadline) {
  absl::StatusOr<TcpSocket> socket =
      TcpSocket::Connect(runtime, url.host, url.port, deadline);
  if (!socket.ok()) return socket.status();
  redisReader* const reader = redisReaderCreateWithFunctions(&reply_functions);
  if (reader == nullptr) {
    return absl::ResourceExhaustedError("redis store: no memory for a reader");
  }
  std::unique_ptr<RedisConnection> connection(
      new RedisConnection(*std::move(socket), reader));
  absl::Status status = connection->SetUp(url, database, deadline);
  if (!status.ok()) return status;
  return connection;
}

absl::Status RedisConnection::SetUp(const StoreUrl& url, int database,
                                    absl::Time deadline) {
  if (!url.password.empty()) {
    std::vector<std::string_view> words = {"AUTH"};
    if (!url.user.empty()) words.push_back(url.user);
    words.push_back(url.password);
    const absl::StatusOr<RedisReply> reply = Call(words, deadline);
    if (!reply.ok()) return reply.status();
    if (reply->kind == RedisReply::Kind::kError) {
      absl::Status status = RedisError("AUTH", reply->text);
      if (absl::IsUnavailable(status)) return status;
      // Some servers repeat in their words what they were given, so only the
      // code is shown.
      return absl::UnauthenticatedError(absl::StrCat(
          "redis store: the server at ", url.Address(),
          " does not accept the user and password of the URL (",
          absl::CHexEscape(CodeOf(reply->text).substr(0, 20)), ")"));
    }
  }
  if (database == 0) return absl::OkStatus();
  const std::string number = absl::StrCat(database);
  const absl::StatusOr<RedisReply> reply = Call({"SELECT", number}, deadline);
  if (!reply.ok()) return reply.status();
  if (reply->kind != RedisReply::Kind::kError) return absl::OkStatus();
  return RedisError(absl::StrCat("SELECT of database ", number), reply->text);
}

absl::StatusOr<RedisReply> RedisConnection::Call(
    const std::vector<std::string_view>& words, absl::Time deadline) {
  std::vector<const char*> data;
  std::vector<size_t> sizes;
  for (const std::string_view word : words) {
    data.push_back(word.data() == nullptr ? "" : word.data());
    sizes.push_back(word.size());
  }
  char* formatted = nullptr;
  const int size = redisFormatCommandArgv(
      &formatted, static_cast<int>(words.size()), data.data(), sizes.data());
  if (size < 0) return absl::ResourceExhaustedError("redis store: no memory");
  // The connection is usable again when the whole reply has been read.
  usable_ = false;
  absl::Status written = socket_.Write(
      std::string_view(formatted, static_cast<size_t>(size)), deadline);
  redisFreeCommand(formatted);
  if (!written.ok()) return written;
  absl::StatusOr<RedisReply> reply = ReadReply(deadline);
  usable_ = reply.ok();
  return reply;
}

absl::StatusOr<RedisReply> RedisConnection::ReadReply(absl::Time deadline) {
  size_t total = 0;
  while (true) {
    std::string bytes;
    absl::Status status = socket_.ReadSome(bytes, deadline);
    if (!status.ok()) return status;
    total += bytes.size();
    if (total > kMaxReplyBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("redis store: a value of more than ",
                       kMaxServerStoreValueBytes, " bytes"));
    }
    void* got = nullptr;
    if (redisReaderFeed(reader_.get(), bytes.data(), bytes.size()) !=
            REDIS_OK ||
        redisReaderGetReply(reader_.get(), &got) != REDIS_OK) {
      return absl::UnavailableError(absl::StrCat(
          "redis store: the server does not speak Redis' protocol: ",
          absl::CHexEscape(std::string(bytes.substr(0, kMaxPrintedBytes)))));
    }
    if (got == nullptr) continue;
    const std::unique_ptr<RedisReply> reply(static_cast<RedisReply*>(got));
    return std::move(*reply);
  }
}

}  // namespace reprise

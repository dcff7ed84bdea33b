#include "agent/store/redis_store.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/store/redis_connection.h"
#include "agent/store/server_store.h"
#include "agent/store/store_status.h"
#include "agent/store/store_url.h"

namespace reprise {
namespace {

using Kind = RedisReply::Kind;

constexpr int kMaxDatabase = 1'000'000;
constexpr int64_t kMaxTtlSeconds = int64_t{10} * 366 * 24 * 3600;

// The last argument of both scripts is the time to live in milliseconds, or 0
// for none.
constexpr char kCompareSetScript[] = R"(
local value = redis.call('GET', KEYS[1])
if value == false then
  if ARGV[1] ~= '' then return ARGV[1] end
elseif value ~= ARGV[1] then
  return value
end
if ARGV[3] == '0' then
  redis.call('SET', KEYS[1], ARGV[2])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return ARGV[2])";
// Lua's numbers have 53 bits, so the sum is returned as a string.
constexpr char kAddScript[] = R"(
local sum = redis.pcall('INCRBY', KEYS[1], ARGV[1])
if type(sum) == 'table' and sum.err then return sum end
if ARGV[2] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return redis.call('GET', KEYS[1]))";

std::string What(std::string_view call, std::string_view key) {
  return absl::StrCat(std::string(call), " of key ", PrintableKey(key));
}

absl::Status Unexpected(std::string_view call, std::string_view key) {
  return absl::InternalError(absl::StrCat("redis store: ", What(call, key),
                                          ": the reply is of the wrong kind"));
}

class RedisStore : public ServerStore<RedisConnection> {
 public:
  RedisStore(Runtime& runtime, StoreUrl url, int database, int64_t ttl_seconds)
      : ServerStore(runtime),
        url_(std::move(url)),
        database_(database),
        ttl_ms_(absl::StrCat(ttl_seconds * 1000)) {}

  absl::Status Set(std::string_view key, std::string_view value,
                   absl::Time deadline) override {
    if (absl::Status status = CheckSize(key, value); !status.ok()) {
      return status;
    }
    std::vector<std::string_view> words = {"SET", key, value};
    if (ttl_ms_ != "0") words.insert(words.end(), {"PX", ttl_ms_});
    return Call("Set", key, words, Repeatable::kYes, deadline).status();
  }

  absl::StatusOr<std::string> CompareSet(std::string_view key,
                                         std::string_view expected,
                                         std::string_view desired,
                                         absl::Time deadline) override {
    if (absl::Status status = CheckSize(key, desired); !status.ok()) {
      return status;
    }
    absl::StatusOr<RedisReply> reply =
        Call("CompareSet", key,
             {"EVAL", kCompareSetScript, "1", key, expected, desired, ttl_ms_},
             Repeatable::kNo, deadline);
    if (!reply.ok()) return reply.status();
    if (reply->kind != Kind::kString) return Unexpected("CompareSet", key);
    return std::move(reply->text);
  }

  absl::StatusOr<int64_t> Add(std::string_view key, int64_t delta,
                              absl::Time deadline) override {
    const std::string number = absl::StrCat(delta);
    const absl::StatusOr<RedisReply> reply =
        Call("Add", key, {"EVAL", kAddScript, "1", key, number, ttl_ms_},
             Repeatable::kNo, deadline);
    if (!reply.ok()) return reply.status();
    int64_t sum = 0;
    if (reply->kind != Kind::kString || !absl::SimpleAtoi(reply->text, &sum)) {
      return Unexpected("Add", key);
    }
    return sum;
  }

  absl::StatusOr<bool> Delete(std::string_view key,
                              absl::Time deadline) override {
    const absl::StatusOr<RedisReply> reply =
        Call("Delete", key, {"DEL", key}, Repeatable::kNo, deadline);
    if (!reply.ok()) return reply.status();
    if (reply->kind != Kind::kInteger) return Unexpected("Delete", key);
    return reply->integer != 0;
  }

 private:
  absl::StatusOr<std::unique_ptr<RedisConnection>> Connect(
      absl::Time deadline) override {
    return RedisConnection::Open(runtime(), url_, database_, deadline);
  }

  static absl::Status CheckSize(std::string_view key, std::string_view value) {
    if (value.size() <= kMaxServerStoreValueBytes) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("redis store: ", What("the value", key), " has more than ",
                     kMaxServerStoreValueBytes, " bytes"));
  }

  absl::StatusOr<std::string> GetIfThere(std::string_view call,
                                         std::string_view key,
                                         absl::Time deadline) override {
    absl::StatusOr<RedisReply> reply =
        Call(call, key, {"GET", key}, Repeatable::kYes, deadline);
    if (!reply.ok()) return reply.status();
    if (reply->kind == Kind::kString) return std::move(reply->text);
    if (reply->kind != Kind::kNil) return Unexpected(call, key);
    return NoSuchKey(key);
  }

  // The reply is never of kind kError: that becomes an error.
  absl::StatusOr<RedisReply> Call(std::string_view call, std::string_view key,
                                  const std::vector<std::string_view>& words,
                                  Repeatable repeatable, absl::Time deadline) {
    absl::StatusOr<RedisReply> reply =
        Run(call, key, repeatable, deadline, [&](RedisConnection& connection) {
          return connection.Call(words, deadline);
        });
    if (reply.ok() && reply->kind == Kind::kError) {
      return RedisError(What(call, key), reply->text);
    }
    return reply;
  }

  const StoreUrl url_;
  const int database_;
  const std::string ttl_ms_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<Store>> OpenRedisStore(Runtime& runtime,
                                                      std::string_view url) {
  absl::StatusOr<StoreUrl> parsed = ParseStoreUrl(url, "6379");
  if (!parsed.ok()) return parsed.status();
  if (!parsed->user.empty() && parsed->password.empty()) {
    return BadStoreUrl(url, "a user needs a password, as in user:password@");
  }
  int database = 0;
  if (!parsed->path.empty() && (!absl::SimpleAtoi(parsed->path, &database) ||
                                database < 0 || database > kMaxDatabase)) {
    return BadStoreUrl(url, "the path is the number of a database");
  }
  int64_t ttl_seconds = 0;
  for (const auto& [name, value] : parsed->options) {
    if (name != "ttl") return BadStoreUrl(url, "only ttl=SECONDS is allowed");
    if (!absl::SimpleAtoi(value, &ttl_seconds) || ttl_seconds <= 0 ||
        ttl_seconds > kMaxTtlSeconds) {
      return BadStoreUrl(url, "ttl is a whole number of seconds, at least 1");
    }
  }
  return std::make_shared<RedisStore>(runtime, *std::move(parsed), database,
                                      ttl_seconds);
}

}  // namespace reprise

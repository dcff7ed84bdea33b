#include "agent/store/etcd_store.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "agent/store/etcd_client.h"
#include "agent/store/server_store.h"
#include "agent/store/store_status.h"
#include "agent/store/store_url.h"
#include "nlohmann/json.hpp"

namespace reprise {
namespace {

using Json = nlohmann::json;

// For one member, however much time a call has.
constexpr absl::Duration kConnectTimeout = absl::Seconds(2);
constexpr absl::Duration kAnswerTimeout = absl::Seconds(10);
// By how much libcurl's clock may be ahead of the runtime's.
constexpr absl::Duration kClockError = absl::Milliseconds(5);
// A poll asks a majority of the cluster.
constexpr absl::Duration kLongestPause = absl::Milliseconds(100);

std::string Base64(std::string_view bytes) {
  return absl::Base64Escape(absl::string_view(bytes.data(), bytes.size()));
}

absl::Status NotEtcd(std::string_view what) {
  return absl::UnavailableError(
      absl::StrCat("etcd store: the server does not speak as etcd's gateway "
                   "does: ",
                   std::string(what)));
}

// What a key holds. `revision` is that of its last change, 0 if it is not
// there.
struct Entry {
  std::string revision = "0";
  std::string value;

  bool is_there() const { return revision != "0"; }
};

// Reads the answer to a range of one key. What is 0 or empty is left out of
// JSON.
absl::StatusOr<Entry> ParseRange(const Json& range) {
  Entry entry;
  const auto kvs = range.find("kvs");
  if (kvs == range.end()) return entry;
  if (!kvs->is_array() || kvs->size() != 1 || !kvs->front().is_object()) {
    return NotEtcd("its list of keys is none");
  }
  const Json& kv = kvs->front();
  const auto revision = kv.find("mod_revision");
  if (revision == kv.end() || !revision->is_string()) {
    return NotEtcd("a key without a revision");
  }
  entry.revision = revision->get<std::string>();
  const auto value = kv.find("value");
  if (value == kv.end()) return entry;
  if (!value->is_string() ||
      !absl::Base64Unescape(value->get_ref<const std::string&>(),
                            &entry.value)) {
    return NotEtcd("a value that is not in base64");
  }
  return entry;
}

class EtcdStore : public ServerStore<EtcdClient> {
 public:
  // `endpoints` are "host:port".
  EtcdStore(Runtime& runtime, std::vector<std::string> endpoints,
            std::string prefix)
      : ServerStore(runtime, kLongestPause),
        endpoints_(std::move(endpoints)),
        prefix_(std::move(prefix) + "/") {}

  absl::Status Set(std::string_view key, std::string_view value,
                   absl::Time deadline) override {
    absl::Status status = CheckSize(key, value);
    if (!status.ok()) return status;
    return Ask("Set", key, Repeatable::kYes, deadline, "put",
               {{"key", Key(key)}, {"value", Base64(value)}})
        .status();
  }

  absl::StatusOr<std::string> CompareSet(std::string_view key,
                                         std::string_view expected,
                                         std::string_view desired,
                                         absl::Time deadline) override {
    absl::Status status = CheckSize(key, desired);
    if (!status.ok()) return status;
    std::string result;
    status = Update(
        "CompareSet", key, deadline,
        [&](const Entry& entry) -> absl::StatusOr<Change> {
          if (entry.is_there() ? entry.value == expected : expected.empty()) {
            result = desired;
            return Change{true, std::string(desired)};
          }
          result = entry.is_there() ? entry.value : expected;
          return Change{};
        });
    if (!status.ok()) return status;
    return result;
  }

  absl::StatusOr<int64_t> Add(std::string_view key, int64_t delta,
                              absl::Time deadline) override {
    int64_t result = 0;
    absl::Status status =
        Update("Add", key, deadline,
               [&](const Entry& entry) -> absl::StatusOr<Change> {
                 const absl::StatusOr<int64_t> sum =
                     AddToCounter(entry.is_there() ? entry.value : "0", delta,
                                  absl::StrCat("key ", PrintableKey(key)));
                 if (!sum.ok()) return sum.status();
                 result = *sum;
                 return Change{true, absl::StrCat(*sum)};
               });
    if (!status.ok()) return status;
    return result;
  }

  absl::StatusOr<bool> Delete(std::string_view key,
                              absl::Time deadline) override {
    const absl::StatusOr<Json> answer =
        Ask("Delete", key, Repeatable::kNo, deadline, "deleterange",
            {{"key", Key(key)}});
    if (!answer.ok()) return answer.status();
    const auto deleted = answer->find("deleted");
    return deleted != answer->end() && *deleted != "0";
  }

 private:
  // What an update makes of a key.
  struct Change {
    bool is_write = false;
    std::string value;
  };

  std::string Key(std::string_view key) const {
    return Base64(absl::StrCat(prefix_, std::string(key)));
  }

  absl::StatusOr<std::unique_ptr<EtcdClient>> Connect(absl::Time) override {
    return EtcdClient::Make();
  }

  absl::StatusOr<std::string> GetIfThere(std::string_view name,
                                         std::string_view key,
                                         absl::Time deadline) override {
    absl::StatusOr<Entry> entry = Read(name, key, deadline);
    if (!entry.ok()) return entry.status();
    if (!entry->is_there()) return NoSuchKey(key);
    return std::move(entry->value);
  }

  absl::StatusOr<Entry> Read(std::string_view name, std::string_view key,
                             absl::Time deadline) {
    const absl::StatusOr<Json> answer = Ask(
        name, key, Repeatable::kYes, deadline, "range", {{"key", Key(key)}});
    if (!answer.ok()) return answer.status();
    return ParseRange(*answer);
  }

  // Writes what `change` makes of the key, if nobody changes that meanwhile;
  // else `change` is called again for what it is now.
  absl::Status Update(
      std::string_view name, std::string_view key, absl::Time deadline,
      absl::FunctionRef<absl::StatusOr<Change>(const Entry&)> change) {
    absl::StatusOr<Entry> entry = Read(name, key, deadline);
    while (entry.ok()) {
      const absl::StatusOr<Change> wanted = change(*entry);
      if (!wanted.ok()) return wanted.status();
      if (!wanted->is_write) return absl::OkStatus();
      const Json compare = {{"target", "MOD"},
                            {"result", "EQUAL"},
                            {"key", Key(key)},
                            {"mod_revision", entry->revision}};
      const Json put = {{"key", Key(key)}, {"value", Base64(wanted->value)}};
      const Json range = {{"key", Key(key)}};
      const absl::StatusOr<Json> answer =
          Ask(name, key, Repeatable::kNo, deadline, "txn",
              {{"compare", Json::array({compare})},
               {"success", Json::array({{{"request_put", put}}})},
               {"failure", Json::array({{{"request_range", range}}})}});
      if (!answer.ok()) return answer.status();
      if (answer->value("succeeded", Json(false)) == true) {
        return absl::OkStatus();
      }
      entry = ParseFailure(*answer);
    }
    return entry.status();
  }

  // What the key is by the answer to a transaction that was not done.
  static absl::StatusOr<Entry> ParseFailure(const Json& answer) {
    const auto responses = answer.find("responses");
    if (responses == answer.end() || !responses->is_array() ||
        responses->size() != 1 || !responses->front().is_object()) {
      return NotEtcd("a transaction without an answer");
    }
    const auto range = responses->front().find("response_range");
    if (range == responses->front().end() || !range->is_object()) {
      return NotEtcd("a transaction without a range");
    }
    return ParseRange(*range);
  }

  // The answer of some member to a request for `method` of etcd's KV.
  absl::StatusOr<Json> Ask(std::string_view name, std::string_view key,
                           Repeatable repeatable, absl::Time deadline,
                           const std::string& method, const Json& request) {
    // The client rotates by itself, so the pool does not try again.
    return Run(name, key, Repeatable::kNo, deadline, [&](EtcdClient& client) {
      return AskInTurn(client, repeatable, deadline, method, request.dump());
    });
  }

  absl::StatusOr<Json> AskInTurn(EtcdClient& client, Repeatable repeatable,
                                 absl::Time deadline, const std::string& method,
                                 std::string body) {
    const size_t first = preferred_;
    EtcdClient::Request request;
    request.body = std::move(body);
    request.once = repeatable == Repeatable::kNo;
    absl::Status status;
    for (size_t i = 0; i < endpoints_.size(); ++i) {
      const size_t member = (first + i) % endpoints_.size();
      const absl::Duration left = deadline - runtime().Now();
      if (left <= absl::ZeroDuration()) break;
      const bool is_last = i + 1 == endpoints_.size();
      const absl::Duration share = is_last ? left : left / 2;
      request.url =
          absl::StrCat("http://", endpoints_[member], "/v3/kv/", method);
      request.connect_timeout = std::min(share, kConnectTimeout);
      request.timeout = std::min(request.once ? left : share, kAnswerTimeout);
      EtcdClient::Answer answer = client.Post(request);
      if (answer.status.ok()) {
        preferred_ = member;
        return std::move(answer.json);
      }
      status = answer.status;
      // Any other status is the cluster's, not the member's.
      if (!absl::IsUnavailable(status)) return status;
      preferred_ = (member + 1) % endpoints_.size();
      if (answer.timed_out && deadline - runtime().Now() < kClockError) {
        runtime().SleepUntil(deadline);
        break;
      }
      if (answer.may_have_effect && repeatable == Repeatable::kNo) break;
    }
    if (runtime().Now() < deadline) return status;
    return absl::DeadlineExceededError(
        status.ok() ? "etcd store: no time is left" : status.message());
  }

  static absl::Status CheckSize(std::string_view key, std::string_view value) {
    if (value.size() <= kMaxServerStoreValueBytes) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("etcd store: the value of key ", PrintableKey(key),
                     " has more than ", kMaxServerStoreValueBytes, " bytes"));
  }

  const std::vector<std::string> endpoints_;
  const std::string prefix_;
  std::atomic<size_t> preferred_ = 0;  // the member that is asked first
};

}  // namespace

absl::StatusOr<std::shared_ptr<Store>> OpenEtcdStore(Runtime& runtime,
                                                     std::string_view url) {
  constexpr std::string_view kScheme = "etcd://";
  if (url.substr(0, kScheme.size()) != kScheme) {
    return BadStoreUrl(url, "it does not begin with etcd://");
  }
  const std::string_view rest = url.substr(kScheme.size());
  const std::string_view hosts = rest.substr(0, rest.find('/'));
  std::vector<std::string> endpoints;
  std::string prefix;
  const std::vector<std::string> members =
      absl::StrSplit(std::string(hosts), ',');
  for (const std::string& member : members) {
    const absl::StatusOr<StoreUrl> parsed = ParseStoreUrl(
        absl::StrCat("etcd://", member, std::string(rest.substr(hosts.size()))),
        "2379");
    if (!parsed.ok()) {
      return BadStoreUrl(url,
                         "each member is host[:port], with commas between "
                         "them, as in etcd://a,b:2379,c/prefix");
    }
    if (!parsed->user.empty() || !parsed->password.empty() ||
        member.find('@') != std::string::npos) {
      return BadStoreUrl(url, "users of etcd are not supported");
    }
    if (!parsed->options.empty()) {
      return BadStoreUrl(url, "etcd:// has no options");
    }
    endpoints.push_back(parsed->Address());
    prefix = parsed->path;
  }
  return std::make_shared<EtcdStore>(runtime, std::move(endpoints),
                                     std::move(prefix));
}

}  // namespace reprise

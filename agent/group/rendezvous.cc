#include "agent/group/rendezvous.h"

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/group/deadline_margin.h"
#include "agent/planted.h"

namespace reprise {
namespace {

// How often a worker that waits looks whether the store still has its name.
constexpr absl::Duration kKeep = absl::Seconds(1);

constexpr char kStaticGroupKey[] = "rpcIsStaticGroup";

// Makes what others wrote short and printable.
std::string Printable(const std::string& text) {
  return absl::CHexEscape(text.substr(0, kMaxWorkerName));
}

// Waits for all `keys`; the result is in their order. Calls `keep` every second
// of the wait. DEADLINE_EXCEEDED lists what is missing, as `describe(index)`
// names it.
absl::StatusOr<std::vector<std::string>> GetAll(
    Runtime& runtime, StoreClient& store, const std::vector<std::string>& keys,
    const std::function<absl::Status()>& keep,
    const std::function<std::string(size_t)>& describe, absl::Time deadline) {
  std::vector<std::optional<std::string>> values(keys.size());
  const LookSchedule looks(runtime.Now(), deadline, absl::InfiniteDuration());
  std::vector<std::string> missing;  // at the last look
  while (true) {
    const absl::Time next_look = looks.Next(runtime.Now());
    const absl::Time until = std::min(next_look, runtime.Now() + kKeep);
    absl::Status waited;
    for (size_t i = 0; i < keys.size() && waited.ok(); ++i) {
      if (values[i].has_value()) continue;
      absl::StatusOr<std::string> value = store.Get(keys[i], until);
      waited = value.status();
      if (value.ok()) values[i] = *std::move(value);
    }
    if (waited.ok()) break;
    if (!absl::IsDeadlineExceeded(waited)) return waited;
    if (until >= deadline) {
      if (missing.empty()) return waited;
      return absl::DeadlineExceededError(
          absl::StrCat(keys.size() - missing.size(), " of ", keys.size(),
                       " workers came; missing: ", absl::StrJoin(missing, ", "),
                       " (", waited.message(), ")"));
    }
    const absl::Status kept = keep();
    if (!kept.ok() && !absl::IsDeadlineExceeded(kept)) return kept;
    if (until < next_look) continue;
    std::vector<std::string> still_missing;
    absl::Status looked;
    for (size_t i = 0; i < keys.size() && looked.ok(); ++i) {
      if (values[i].has_value()) continue;
      absl::StatusOr<std::string> value = store.TryGet(keys[i], deadline);
      if (value.ok()) {
        values[i] = *std::move(value);
      } else if (absl::IsNotFound(value.status())) {
        still_missing.push_back(describe(i));
      } else {
        looked = value.status();
      }
    }
    // A look that ran out of time tells nothing new.
    if (looked.ok()) missing = std::move(still_missing);
  }
  std::vector<std::string> result;
  result.reserve(values.size());
  for (std::optional<std::string>& value : values) {
    result.push_back(*std::move(value));
  }
  return result;
}

absl::Status PublishName(StoreClient& store, const AgentOptions& options,
                         absl::Time deadline) {
  const absl::StatusOr<std::string> present =
      store.CompareSet(NameKey(options.id), "", options.name, deadline);
  if (!present.ok()) return present.status();
  if (*present != options.name) {
    return absl::AlreadyExistsError(
        absl::StrCat("RPC worker id ", options.id, " is taken by worker '",
                     Printable(*present), "'; worker '", options.name,
                     "' cannot have it too."));
  }
  // A stock worker may wait for this name already, and some servers do not wake
  // it for what was written by compare-and-set.
  return store.Set(NameKey(options.id), options.name, deadline);
}

}  // namespace

std::string NameKey(int64_t id) { return absl::StrCat("names/", id); }

std::string AddressKey(const std::string& worker_name) {
  return absl::StrCat("addrs/", worker_name);
}

std::string FeaturesKey(const std::string& worker_name) {
  return absl::StrCat("reprise/features/", worker_name);
}

absl::Status AgreeOnKind(StoreClient& store, bool is_static,
                         absl::Time deadline) {
  const std::string ours = is_static ? "true" : "false";
  const absl::StatusOr<std::string> kind =
      store.CompareSet(kStaticGroupKey, "", ours, deadline);
  if (!kind.ok()) return kind.status();
  if (*kind != ours) {
    return absl::FailedPreconditionError(absl::StrCat(
        "RPC group mixes statically and dynamically initialized members which "
        "is not supported. This member would be ",
        is_static ? "static" : "dynamic", ", but ", kStaticGroupKey, " is '",
        Printable(*kind), "'."));
  }
  return absl::OkStatus();
}

absl::Status KeepName(StoreClient& store, const AgentOptions& options,
                      absl::Time deadline) {
  if (REPRISE_PLANTED(name_written_once)) return absl::OkStatus();
  const absl::StatusOr<std::string> present =
      store.TryGet(NameKey(options.id), deadline);
  if (!present.ok() && !absl::IsNotFound(present.status())) {
    return present.status();
  }
  return present.value_or("") == options.name
             ? absl::OkStatus()
             : PublishName(store, options, deadline);
}

absl::StatusOr<std::vector<WorkerInfo>> ExchangeNames(
    Runtime& runtime, StoreClient& store, const AgentOptions& options,
    absl::Time deadline) {
  if (absl::Status status = PublishName(store, options, deadline);
      !status.ok()) {
    return status;
  }
  std::vector<std::string> keys;
  for (int64_t id = 0; id < options.world_size; ++id) {
    keys.push_back(NameKey(id));
  }
  absl::StatusOr<std::vector<std::string>> names = GetAll(
      runtime, store, keys,
      [&] {
        return KeepName(store, options,
                        std::min(deadline, runtime.Now() + kKeep));
      },
      [](size_t id) { return absl::StrCat("rank ", id); }, deadline);
  if (!names.ok()) return names.status();

  std::vector<WorkerInfo> workers;
  std::map<std::string_view, size_t> ids;
  for (size_t id = 0; id < names->size(); ++id) {
    const std::string& name = (*names)[id];
    if (!IsWorkerName(name)) {
      return absl::InvalidArgumentError(
          absl::StrCat("the store has no valid name for RPC worker ", id, ": '",
                       Printable(name), "'"));
    }
    const auto [same_name, is_new] = ids.emplace(name, id);
    if (!is_new) {
      return absl::AlreadyExistsError(absl::StrCat(
          "RPC worker name ", name, " is not unique. Workers ",
          same_name->second, " and ", id, " share the same name."));
    }
    workers.push_back({name, static_cast<WorkerId>(id)});
  }
  return workers;
}

}  // namespace reprise

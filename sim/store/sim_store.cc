#include "sim/store/sim_store.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "absl/strings/str_cat.h"
#include "sim/random.h"
#include "sim/world/race_annotations.h"

namespace reprise {
namespace {

constexpr int64_t kOneWayMinNs = 30'000;
constexpr uint64_t kOneWaySpreadNs = 120'000;

// Orders late effects among simultaneous events: after the network's.
constexpr uint64_t kStoreSource = UINT64_MAX - 2;

absl::Status TooLate(std::string_view key) {
  return absl::DeadlineExceededError(
      absl::StrCat("store: '", std::string(key), "' took too long"));
}

absl::Status Broken() {
  return absl::UnavailableError(
      "store: the connection broke before the reply came");
}

absl::Status Refused() {
  return absl::UnavailableError("store: connection refused");
}

}  // namespace

// Every operation travels to the store, takes effect at one instant, and
// travels back: a node can crash on either way.
class SimStoreClient : public Store {
 public:
  SimStoreClient(SimStoreServer& server, Node& node)
      : server_(server),
        world_(server.world_),
        node_(node),
        place_(world_.decisions().PlaceAt("store")) {}

  absl::Status Set(std::string_view key, std::string_view value,
                   absl::Time deadline) override {
    return Operate(
        "set", key, deadline,
        [&server = server_, key = std::string(key),
         value = std::string(value)] { return server.Set(key, value); });
  }

  absl::StatusOr<std::string> Get(std::string_view key,
                                  absl::Time deadline) override {
    const InSimulator in;
    const int64_t connection = server_.restarts_;
    if (absl::Status status = Go("get", key, deadline, connection);
        !status.ok()) {
      return status;
    }
    if (server_.LateBy(node_.rank).delay_ns >= 0) return Broken();
    const std::string wanted(key);
    const int64_t deadline_ns = node_.ToNanoseconds(deadline);
    for (;;) {
      if (server_.restarts_ != connection) return CutByRestart();
      absl::StatusOr<std::string> value = server_.TryGet(wanted);
      if (value.ok()) {
        if (absl::Status status = Return(key, deadline, connection);
            !status.ok()) {
          return status;
        }
        return value;
      }
      if (deadline_ns <= world_.now_ns()) return TooLate(key);
      Fiber* const self = world_.scheduler().current();
      const auto waiting = server_.waiting_.emplace(wanted, self);
      Site& site = world_.scheduler().SiteHere(node_, place_);
      site.Visit();
      world_.scheduler().Block(site, {"waits for", "a key in the store"},
                               deadline_ns);
      server_.waiting_.erase(waiting);
    }
  }

  absl::StatusOr<std::string> TryGet(std::string_view key,
                                     absl::Time deadline) override {
    const InSimulator in;
    const int64_t connection = server_.restarts_;
    if (absl::Status status = Go("try-get", key, deadline, connection);
        !status.ok()) {
      return status;
    }
    if (server_.LateBy(node_.rank).delay_ns >= 0) return Broken();
    absl::StatusOr<std::string> value = server_.TryGet(key);
    if (absl::Status status = Return(key, deadline, connection); !status.ok()) {
      return status;
    }
    return value;
  }

  absl::StatusOr<std::string> CompareSet(std::string_view key,
                                         std::string_view expected,
                                         std::string_view desired,
                                         absl::Time deadline) override {
    return Operate(
        "compare-set", key, deadline,
        [&server = server_, key = std::string(key),
         expected = std::string(expected), desired = std::string(desired)] {
          return server.CompareSet(key, expected, desired);
        });
  }

  absl::StatusOr<int64_t> Add(std::string_view key, int64_t delta,
                              absl::Time deadline) override {
    return Operate("add", key, deadline,
                   [&server = server_, key = std::string(key), delta] {
                     return server.Add(key, delta);
                   });
  }

  absl::StatusOr<bool> Delete(std::string_view key,
                              absl::Time deadline) override {
    return Operate("delete", key, deadline,
                   [&server = server_, key = std::string(key)] {
                     return server.Delete(key);
                   });
  }

 private:
  // For what changes the store. `effect` owns what it uses besides the server,
  // since it may come late.
  template <typename Effect>
  auto Operate(std::string_view operation, std::string_view key,
               absl::Time deadline, Effect effect) -> decltype(effect()) {
    const InSimulator in;
    const int64_t connection = server_.restarts_;
    if (absl::Status status = Go(operation, key, deadline, connection);
        !status.ok()) {
      return status;
    }
    if (const auto late = server_.LateBy(node_.rank); late.delay_ns >= 0) {
      server_.Injected(FaultKind::kStoreLateEffect, late.rank);
      Later(absl::StrCat(std::string(operation), " ", std::string(key)),
            late.delay_ns, std::move(effect));
      return Broken();
    }
    auto result = effect();
    if (absl::Status status = Return(key, deadline, connection); !status.ok()) {
      return status;
    }
    return result;
  }

  template <typename Effect>
  void Later(std::string what, int64_t late_ns, Effect effect) {
    world_.AtIfRunning(
        world_.now_ns() + late_ns, {kStoreSource, ++server_.num_late_},
        [&server = server_, &node = node_, what = std::move(what),
         effect = std::move(effect), connection = server_.restarts_] {
          // What a server had not read when it died is lost.
          if (server.restarts_ != connection) return;
          server.world_.Record(&node, {.kind = EventKind::kStore,
                                       .text = absl::StrCat("late ", what)});
          static_cast<void>(effect());
        });
  }

  absl::Status Go(std::string_view operation, std::string_view key,
                  absl::Time deadline, int64_t connection) {
    AnnounceRelease(&server_);
    if (absl::Status status = Travel(key, deadline); !status.ok()) {
      return status;
    }
    if (server_.InOutage(node_.rank)) return Refused();
    const std::string what =
        absl::StrCat(std::string(operation), " ", std::string(key));
    world_.Record(&node_, {.kind = EventKind::kStore, .text = what});
    // The server may have died on the way here, or at this very event.
    return server_.restarts_ == connection ? absl::OkStatus() : CutByRestart();
  }

  absl::Status Return(std::string_view key, absl::Time deadline,
                      int64_t connection) {
    if (const auto* lost = server_.LosesReply(node_.rank)) {
      AnnounceAcquire(&server_);
      if (!lost->silent) return Broken();
      Site& site = world_.scheduler().SiteHere(node_, place_);
      site.Visit();
      world_.scheduler().Block(site, {"waits for", "the store"},
                               node_.ToNanoseconds(deadline));
      return TooLate(key);
    }
    absl::Status status = Travel(key, deadline);
    AnnounceAcquire(&server_);
    if (status.ok() && server_.restarts_ != connection) return CutByRestart();
    return status;
  }

  absl::Status CutByRestart() {
    server_.Injected(FaultKind::kStoreRestart, -1);
    return Broken();
  }

  absl::Status Travel(std::string_view key, absl::Time deadline) {
    Site& site = world_.scheduler().SiteHere(node_, place_);
    site.Visit();
    const int64_t arrival_ns =
        world_.now_ns() + kOneWayMinNs + server_.ExtraDelay(key) +
        static_cast<int64_t>(
            Below(site.Bits(DecisionKind::kLatency), kOneWaySpreadNs));
    const int64_t deadline_ns = node_.ToNanoseconds(deadline);
    const bool too_late = deadline_ns < arrival_ns;
    if (const int64_t until_ns = std::min(arrival_ns, deadline_ns);
        until_ns > world_.now_ns()) {
      world_.scheduler().Block(site, {"waits for", "the store"}, until_ns);
    }
    return too_late ? TooLate(key) : absl::OkStatus();
  }

  SimStoreServer& server_;
  World& world_;
  Node& node_;
  const Place& place_;
};

std::shared_ptr<Store> SimStoreServer::Connect(Node& node) {
  return std::make_shared<SimStoreClient>(*this, node);
}

absl::Status SimStoreServer::Set(std::string_view key, std::string_view value) {
  const std::string name(key);
  Remember(name);
  values_[name] = std::string(value);
  Changed(name);
  return absl::OkStatus();
}

absl::StatusOr<std::string> SimStoreServer::TryGet(std::string_view key) const {
  const auto it = values_.find(std::string(key));
  if (it != values_.end()) return it->second;
  return absl::NotFoundError(
      absl::StrCat("store: no key '", std::string(key), "'"));
}

absl::StatusOr<std::string> SimStoreServer::CompareSet(
    std::string_view key, std::string_view expected, std::string_view desired) {
  const auto it = values_.find(std::string(key));
  const bool exists = it != values_.end();
  if (exists ? it->second != expected : !expected.empty()) {
    return exists ? it->second : std::string(expected);
  }
  Set(key, desired).IgnoreError();
  return std::string(desired);
}

absl::StatusOr<int64_t> SimStoreServer::Add(std::string_view key,
                                            int64_t delta) {
  int64_t sum = 0;
  if (const auto it = values_.find(std::string(key)); it != values_.end()) {
    const std::string& text = it->second;
    auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), sum);
    if (error != std::errc() || end != text.data() + text.size()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "store: '", std::string(key), "' is not a number: ", text));
    }
  }
  if (__builtin_add_overflow(sum, delta, &sum)) {
    return absl::InvalidArgumentError(
        absl::StrCat("store: '", std::string(key), "' overflows"));
  }
  Set(key, std::to_string(sum)).IgnoreError();
  return sum;
}

absl::StatusOr<bool> SimStoreServer::Delete(std::string_view key) {
  const std::string name(key);
  Remember(name);
  return values_.erase(name) != 0;
}

void SimStoreServer::Remember(const std::string& key) {
  if (!keeps_history_) return;
  const auto it = values_.find(key);
  history_.push_back(
      {world_.now_ns(), key,
       it == values_.end() ? std::nullopt : std::optional(it->second)});
}

void SimStoreServer::Restart(int64_t lost_ns, int64_t until_ns) {
  const int64_t now_ns = world_.now_ns();
  ++restarts_;
  down_until_ns_ = until_ns;
  while (!history_.empty() && history_.back().time_ns > now_ns - lost_ns) {
    Write& write = history_.back();
    if (write.before.has_value()) {
      values_[write.key] = *std::move(write.before);
    } else {
      values_.erase(write.key);
    }
    history_.pop_back();
    Injected(FaultKind::kStoreRestart, -1);
  }
  for (const auto& [key, fiber] : waiting_) world_.scheduler().Wake(fiber);
}

bool SimStoreServer::InOutage(int32_t rank) {
  if (down_until_ns_ > world_.now_ns()) {
    Injected(FaultKind::kStoreRestart, -1);
    return true;
  }
  for (int32_t which : {rank, int32_t{-1}}) {
    auto it = outage_until_ns_.find(which);
    if (it != outage_until_ns_.end() && it->second > world_.now_ns()) {
      Injected(FaultKind::kStoreOutage, which);
      return true;
    }
  }
  return false;
}

int64_t SimStoreServer::ExtraDelay(std::string_view key) {
  int64_t delay_ns = 0;
  if (delay_until_ns_ > world_.now_ns()) {
    Injected(FaultKind::kStoreDelay, -1);
    delay_ns += delay_ns_;
  }
  if (slow_keys_until_ns_ > world_.now_ns() &&
      Mix(HashBytes(key) ^ world_.options().seed) % 2 == 0) {
    Injected(FaultKind::kStoreSlowKeys, -1);
    delay_ns += slow_keys_delay_ns_;
  }
  return delay_ns;
}

const SimStoreServer::LostReplies* SimStoreServer::LosesReply(int32_t rank) {
  for (int32_t which : {rank, int32_t{-1}}) {
    const auto it = lost_replies_.find(which);
    if (it == lost_replies_.end() || it->second.until_ns <= world_.now_ns()) {
      continue;
    }
    Injected(FaultKind::kStoreLostReply, which);
    return &it->second;
  }
  return nullptr;
}

SimStoreServer::Late SimStoreServer::LateBy(int32_t rank) const {
  for (int32_t which : {rank, int32_t{-1}}) {
    const auto it = late_effects_.find(which);
    if (it != late_effects_.end() && it->second.until_ns > world_.now_ns()) {
      return {which, it->second.delay_ns};
    }
  }
  return {};
}

void SimStoreServer::Changed(const std::string& key) {
  const auto [first, last] = waiting_.equal_range(key);
  for (auto it = first; it != last; ++it) world_.scheduler().Wake(it->second);
}

}  // namespace reprise

#include "sim/store/sim_store.h"

#include <algorithm>
#include <charconv>

#include "absl/strings/str_cat.h"
#include "sim/world/race_annotations.h"

namespace reprise {
namespace {

constexpr int64_t kOneWayMinNs = 30'000;
constexpr uint64_t kOneWaySpreadNs = 120'000;

absl::Status TooLate(std::string_view key) {
  return absl::DeadlineExceededError(
      absl::StrCat("store: '", std::string(key), "' took too long"));
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
    const InSimulator in;
    if (absl::Status status = Go("set", key, deadline); !status.ok()) {
      return status;
    }
    server_.values_[std::string(key)] = std::string(value);
    server_.Changed(std::string(key));
    return Return(key, deadline);
  }

  absl::StatusOr<std::string> Get(std::string_view key,
                                  absl::Time deadline) override {
    const InSimulator in;
    if (absl::Status status = Go("get", key, deadline); !status.ok()) {
      return status;
    }
    const std::string wanted(key);
    const int64_t deadline_ns = World::ToNanoseconds(deadline);
    for (;;) {
      auto it = server_.values_.find(wanted);
      if (it != server_.values_.end()) {
        std::string value = it->second;
        if (absl::Status status = Return(key, deadline); !status.ok()) {
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
    if (absl::Status status = Go("try-get", key, deadline); !status.ok()) {
      return status;
    }
    auto it = server_.values_.find(std::string(key));
    const bool found = it != server_.values_.end();
    std::string value = found ? it->second : "";
    if (absl::Status status = Return(key, deadline); !status.ok()) {
      return status;
    }
    if (!found) {
      return absl::NotFoundError(
          absl::StrCat("store: no key '", std::string(key), "'"));
    }
    return value;
  }

  absl::StatusOr<std::string> CompareSet(std::string_view key,
                                         std::string_view expected,
                                         std::string_view desired,
                                         absl::Time deadline) override {
    const InSimulator in;
    if (absl::Status status = Go("compare-set", key, deadline); !status.ok()) {
      return status;
    }
    auto it = server_.values_.find(std::string(key));
    const bool exists = it != server_.values_.end();
    std::string result(expected);
    if (exists ? it->second == expected : expected.empty()) {
      server_.values_[std::string(key)] = std::string(desired);
      server_.Changed(std::string(key));
      result = std::string(desired);
    } else if (exists) {
      result = it->second;
    }
    if (absl::Status status = Return(key, deadline); !status.ok()) {
      return status;
    }
    return result;
  }

  absl::StatusOr<int64_t> Add(std::string_view key, int64_t delta,
                              absl::Time deadline) override {
    const InSimulator in;
    if (absl::Status status = Go("add", key, deadline); !status.ok()) {
      return status;
    }
    int64_t sum = 0;
    auto it = server_.values_.find(std::string(key));
    if (it != server_.values_.end()) {
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
    server_.values_[std::string(key)] = std::to_string(sum);
    server_.Changed(std::string(key));
    if (absl::Status status = Return(key, deadline); !status.ok()) {
      return status;
    }
    return sum;
  }

  absl::StatusOr<bool> Delete(std::string_view key,
                              absl::Time deadline) override {
    const InSimulator in;
    if (absl::Status status = Go("delete", key, deadline); !status.ok()) {
      return status;
    }
    const bool existed = server_.values_.erase(std::string(key)) != 0;
    if (absl::Status status = Return(key, deadline); !status.ok()) {
      return status;
    }
    return existed;
  }

 private:
  absl::Status Go(std::string_view operation, std::string_view key,
                  absl::Time deadline) {
    AnnounceRelease(&server_);
    if (absl::Status status = Travel(key, deadline); !status.ok()) {
      return status;
    }
    if (server_.InOutage(node_.rank)) {
      return absl::UnavailableError("store: connection refused");
    }
    const std::string what =
        absl::StrCat(std::string(operation), " ", std::string(key));
    world_.Record(&node_, {.kind = EventKind::kStore, .text = what});
    return absl::OkStatus();
  }

  absl::Status Return(std::string_view key, absl::Time deadline) {
    absl::Status status = Travel(key, deadline);
    AnnounceAcquire(&server_);
    return status;
  }

  absl::Status Travel(std::string_view key, absl::Time deadline) {
    Site& site = world_.scheduler().SiteHere(node_, place_);
    site.Visit();
    const int64_t arrival_ns =
        world_.now_ns() + kOneWayMinNs + server_.ExtraDelay() +
        static_cast<int64_t>(
            Below(site.Bits(DecisionKind::kLatency), kOneWaySpreadNs));
    const int64_t deadline_ns = World::ToNanoseconds(deadline);
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

bool SimStoreServer::InOutage(int32_t rank) {
  for (int32_t which : {rank, int32_t{-1}}) {
    auto it = outage_until_ns_.find(which);
    if (it != outage_until_ns_.end() && it->second > world_.now_ns()) {
      if (on_injected_) on_injected_(FaultKind::kStoreOutage, which);
      return true;
    }
  }
  return false;
}

int64_t SimStoreServer::ExtraDelay() {
  if (delay_until_ns_ <= world_.now_ns()) return 0;
  if (on_injected_) on_injected_(FaultKind::kStoreDelay, -1);
  return delay_ns_;
}

void SimStoreServer::Changed(const std::string& key) {
  const auto [first, last] = waiting_.equal_range(key);
  for (auto it = first; it != last; ++it) world_.scheduler().Wake(it->second);
}

}  // namespace reprise

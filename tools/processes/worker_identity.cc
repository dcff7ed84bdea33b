#include "tools/processes/worker_identity.h"

#include <algorithm>
#include <cctype>
#include <string_view>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace reprise {
namespace {

constexpr int kMostWorkers = 32768;
constexpr size_t kLongestRunId = 128;

bool IsRunId(std::string_view id) {
  return !id.empty() && id.size() <= kLongestRunId &&
         std::all_of(id.begin(), id.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.' ||
                  c == ':';
         });
}

// It collects all errors, so that the user sees them at once.
class Resolver {
 public:
  Resolver(const IdentityFlags& flags, const Environ& environ)
      : flags_(flags), environ_(environ) {}

  absl::StatusOr<WorkerIdentity> Run(int scenario_workers) {
    WorkerIdentity identity;
    identity.rank = Rank();
    identity.world_size =
        Number(flags_.world_size, {"WORLD_SIZE", "SLURM_NTASKS"})
            .value_or(scenario_workers);
    identity.store_url = StoreUrl();
    identity.run_id = RunId();
    if (identity.world_size < 1 || identity.world_size > kMostWorkers) {
      wrong_.push_back(absl::StrCat("the world size is ", identity.world_size,
                                    ", and must be 1 to ", kMostWorkers));
    } else if (identity.rank >= identity.world_size) {
      wrong_.push_back(absl::StrCat("rank ", identity.rank,
                                    " does not fit a world of ",
                                    identity.world_size));
    }
    if (identity.world_size > 1 && identity.store_url == "memory://") {
      wrong_.push_back(
          "memory:// is within one process; workers need a store "
          "that all of them reach");
    }
    if (!IsRunId(identity.run_id)) {
      wrong_.push_back(
          "the run id must be 1 to 128 characters of A-Z a-z 0-9 - _ . :");
    }
    if (wrong_.empty()) return identity;
    return absl::InvalidArgumentError(
        absl::StrCat("reprise worker: ", absl::StrJoin(wrong_, "; ")));
  }

 private:
  std::string Variable(const char* name) const {
    const char* const value = environ_(name);
    return value == nullptr ? "" : value;
  }

  // The flag, or the first of the variables that is set.
  std::optional<int> Number(const std::optional<int>& flag,
                            const std::vector<const char*>& names) {
    if (flag.has_value()) return flag;
    for (const char* name : names) {
      const std::string text = Variable(name);
      if (text.empty()) continue;
      int value = 0;
      if (absl::SimpleAtoi(text, &value)) return value;
      wrong_.push_back(absl::StrCat(name, " is no number: '", text, "'"));
      return std::nullopt;
    }
    return std::nullopt;
  }

  int Rank() {
    std::optional<int> by_name;
    if (!flags_.name.empty()) {
      int rank = 0;
      if (flags_.name[0] == 'w' &&
          absl::SimpleAtoi(flags_.name.substr(1), &rank) && rank >= 0 &&
          flags_.name == absl::StrCat("w", rank)) {
        by_name = rank;
      } else {
        wrong_.push_back(absl::StrCat("--name ", flags_.name,
                                      ": the workers of a scenario are w0, w1, "
                                      "..."));
        return 0;
      }
    }
    const size_t wrong = wrong_.size();
    std::optional<int> rank = flags_.rank;
    if (!rank) rank = by_name;
    if (!rank) rank = Number(std::nullopt, {"RANK", "SLURM_PROCID"});
    if (!rank) {
      if (wrong_.size() == wrong) {
        wrong_.push_back(
            "no rank: give --rank N or --name wN, or set RANK (torchrun) or "
            "SLURM_PROCID (Slurm)");
      }
      return 0;
    }
    if (*rank < 0) {
      wrong_.push_back(absl::StrCat("rank ", *rank, " is negative"));
      return 0;
    }
    if (by_name && *by_name != *rank) {
      wrong_.push_back(
          absl::StrCat("--name ", flags_.name, " contradicts rank ", *rank));
    }
    return *rank;
  }

  std::string StoreUrl() {
    if (!flags_.store_url.empty()) return flags_.store_url;
    const std::string address = Variable("MASTER_ADDR");
    const std::string port = Variable("MASTER_PORT");
    if (address.empty() && port.empty()) {
      wrong_.push_back(
          "no store: give --store URL, or set MASTER_ADDR and MASTER_PORT "
          "(torchrun)");
      return "";
    }
    if (address.empty() || port.empty()) {
      wrong_.push_back(absl::StrCat(
          "no store: ", address.empty() ? "MASTER_ADDR" : "MASTER_PORT",
          " is not set, although the other one is; or give --store URL"));
      return "";
    }
    const bool is_ipv6 =
        address.find(':') != std::string::npos && address.front() != '[';
    return absl::StrCat("tcp://",
                        is_ipv6 ? absl::StrCat("[", address, "]") : address,
                        ":", port);
  }

  std::string RunId() const {
    if (!flags_.run_id.empty()) return flags_.run_id;
    if (const std::string id = Variable("TORCHELASTIC_RUN_ID"); !id.empty()) {
      const std::string restarts = Variable("TORCHELASTIC_RESTART_COUNT");
      return restarts.empty() ? id : absl::StrCat(id, ".", restarts);
    }
    if (const std::string id = Variable("SLURM_JOB_ID"); !id.empty()) {
      const std::string step = Variable("SLURM_STEP_ID");
      return step.empty() ? id : absl::StrCat(id, ".", step);
    }
    return "default";
  }

  const IdentityFlags& flags_;
  const Environ& environ_;
  std::vector<std::string> wrong_;
};

}  // namespace

absl::StatusOr<WorkerIdentity> ResolveIdentity(const IdentityFlags& flags,
                                               int scenario_workers,
                                               const Environ& environ) {
  return Resolver(flags, environ).Run(scenario_workers);
}

}  // namespace reprise

#include "tools/processes/clock_exchange.h"

#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tools/processes/worker_arguments.h"

namespace reprise {
namespace {

constexpr int kRounds = 5;

std::string Key(const std::string& prefix, int rank, int round,
                std::string_view what) {
  return absl::StrCat(prefix, "/clock/", rank, "/", round, "/",
                      absl::string_view(what.data(), what.size()));
}

}  // namespace

absl::Status AnswerClocks(Store& store, const std::string& prefix,
                          int world_size, absl::Time deadline) {
  for (int rank = 1; rank < world_size; ++rank) {
    for (int round = 0; round < kRounds; ++round) {
      const std::string ask = Key(prefix, rank, round, "ask");
      if (const auto asked = store.Get(ask, deadline); !asked.ok()) {
        return absl::Status(
            asked.status().code(),
            absl::StrCat("worker ", rank,
                         " did not come: ", asked.status().message(),
                         "; start every worker with the same --store, --run-id "
                         "and --world-size"));
      }
      const std::string now = absl::StrCat(MonotonicNanoseconds());
      if (absl::Status status =
              store.Set(Key(prefix, rank, round, "answer"), now, deadline);
          !status.ok()) {
        return status;
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<ClockOffset> AskClock(Store& store, const std::string& prefix,
                                     int rank, absl::Time deadline) {
  ClockOffset best;
  best.error_ns = std::numeric_limits<int64_t>::max();
  for (int round = 0; round < kRounds; ++round) {
    const int64_t before_ns = MonotonicNanoseconds();
    if (absl::Status status =
            store.Set(Key(prefix, rank, round, "ask"), "1", deadline);
        !status.ok()) {
      return status;
    }
    const auto answer = store.Get(Key(prefix, rank, round, "answer"), deadline);
    const int64_t after_ns = MonotonicNanoseconds();
    if (!answer.ok()) {
      return absl::Status(answer.status().code(),
                          absl::StrCat("worker 0, the coordinator, did not "
                                       "come: ",
                                       answer.status().message()));
    }
    int64_t coordinator_ns = 0;
    // The bound keeps differences in range.
    if (!absl::SimpleAtoi(*answer, &coordinator_ns) || coordinator_ns < 0 ||
        coordinator_ns > int64_t{1} << 61) {
      return absl::InvalidArgumentError(
          "the store holds no time where the coordinator's answer should be");
    }
    const int64_t error_ns = (after_ns - before_ns + 1) / 2;
    if (error_ns >= best.error_ns) continue;
    best.error_ns = error_ns;
    best.offset_ns = coordinator_ns - (before_ns + error_ns);
  }
  // The keys have served, and this worker has to remove them.
  for (int round = 0; round < kRounds; ++round) {
    store.Delete(Key(prefix, rank, round, "ask"), deadline).IgnoreError();
    store.Delete(Key(prefix, rank, round, "answer"), deadline).IgnoreError();
  }
  return best;
}

}  // namespace reprise

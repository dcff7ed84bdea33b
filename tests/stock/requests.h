// How the handlers of `Peer`s answer.

#ifndef REPRISE_TESTS_STOCK_REQUESTS_H_
#define REPRISE_TESTS_STOCK_REQUESTS_H_

#include <functional>
#include <mutex>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "sim/scenario/scenario.h"

namespace reprise::scenarios {

// Thread-safe.
class Requests {
 public:
  // Calls "E" on the worker of this rank, and waits for it.
  using CallRank = std::function<absl::Status(int rank)>;

  explicit Requests(Worker& worker) : worker_(worker) {}

  // The answer to a request, as peer.h has it.
  absl::StatusOr<std::string> Answer(const std::string& payload,
                                     const CallRank& call);

 private:
  Worker& worker_;
  std::mutex mutex_;
  std::set<std::string> seen_;  // payloads "R..."
};

}  // namespace reprise::scenarios

#endif  // REPRISE_TESTS_STOCK_REQUESTS_H_

// What the scenarios of the museum share: each shows a defect of PyTorch's
// agent when its workers are PyTorch's, and holds when they are ours
// (docs/stock-museum.md).

#ifndef REPRISE_TESTS_STOCK_MUSEUM_H_
#define REPRISE_TESTS_STOCK_MUSEUM_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "sim/scenario/scenario.h"
#include "tests/stock/peer.h"

namespace reprise::scenarios {

// The parameter `ours`: 0 for PyTorch's agents, 1 for ours.
inline PeerKind KindOf(const Worker& worker) {
  return worker.param("ours") != 0 ? PeerKind::kOurs : PeerKind::kStock;
}

// Waits for `call` until `deadline` at most and notes how it ended.
absl::StatusOr<std::string> Await(Worker& worker, std::string_view what,
                                  const absl::StatusOr<PendingCall>& call,
                                  absl::Time deadline);

// The graceful end of a group whose workers are well: must succeed.
void JoinAndShutdown(Worker& worker, Peer& peer);

}  // namespace reprise::scenarios

#endif  // REPRISE_TESTS_STOCK_MUSEUM_H_

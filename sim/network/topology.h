// The lines of a topology: what the links of a simulated network are like that
// are not as the others.
//
//   link w0,w1-w2 latency 20ms jitter 5ms
//   link w0>w1 bandwidth 1000000 loss 100
//   host w0,w1
//
// `link` names two workers or groups, and one direction (`>`) or both. Behind
// it come one or more of: the least latency, the jitter that is drawn on top
// of it, the bandwidth in bytes per second, and the loss: one of so many frames
// comes only when it was sent again. A later line wins. `host`: these workers
// share a host, and so its links.
//
// Parsing has no state and is safe on any thread.

#ifndef REPRISE_SIM_NETWORK_TOPOLOGY_H_
#define REPRISE_SIM_NETWORK_TOPOLOGY_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "sim/network/options.h"

namespace reprise {

// The lines of the text of a file: without those that are blank or begin with
// '#', and with single blanks between words. INVALID_ARGUMENT for a line that
// makes no sense, by its number ("line 3: ...").
absl::StatusOr<std::vector<std::string>> ParseTopology(std::string_view text,
                                                       int num_workers);

// Adds what the lines say to `options`. INVALID_ARGUMENT names the line and
// what is wrong with it; workers are w0 to w(num_workers - 1).
absl::Status ApplyTopology(const std::vector<std::string>& lines,
                           int num_workers, NetworkOptions& options);

}  // namespace reprise

#endif  // REPRISE_SIM_NETWORK_TOPOLOGY_H_

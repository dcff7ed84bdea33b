// Probes of TensorPipe's transport contract: each uses a transport in one way
// and tells what it answered, in which order, and with which texts. Two
// transports keep the same contract if their transcripts are equal.

#ifndef REPRISE_TESTS_UNIT_TRANSPORT_CONTRACT_PROBES_H_
#define REPRISE_TESTS_UNIT_TRANSPORT_CONTRACT_PROBES_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tensorpipe/transport/context.h"

namespace reprise::testing {

// A kind of transport.
struct ProbedTransport {
  std::function<std::shared_ptr<tensorpipe::transport::Context>()> make;
  std::string any;  // an address at which it can always listen
};

using Transcript = std::vector<std::string>;

struct Probe {
  const char* name;
  // Blocks. It makes its contexts and joins them.
  Transcript (*run)(const ProbedTransport& transport);
};

const std::vector<Probe>& AllProbes();

}  // namespace reprise::testing

#endif  // REPRISE_TESTS_UNIT_TRANSPORT_CONTRACT_PROBES_H_

// Channels in this process, over connections of our transport uv.

#ifndef REPRISE_TESTS_UNIT_TRANSPORT_CMA_TESTING_H_
#define REPRISE_TESTS_UNIT_TRANSPORT_CMA_TESTING_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <future>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "tensorpipe/channel/channel.h"
#include "tensorpipe/channel/context.h"
#include "tensorpipe/common/error.h"
#include "tensorpipe/transport/connection.h"
#include "tensorpipe/transport/context.h"
#include "tensorpipe/transport/listener.h"

namespace reprise {

using Connections =
    std::vector<std::shared_ptr<tensorpipe::transport::Connection>>;

// Makes pairs of connections, each end with a thread of its own.
class Wires {
 public:
  Wires();
  ~Wires();

  // As many as a channel cma needs, or another number.
  std::pair<Connections, Connections> Connect(size_t count = 2);

 private:
  std::shared_ptr<tensorpipe::transport::Context> near_;
  std::shared_ptr<tensorpipe::transport::Context> far_;
  std::shared_ptr<tensorpipe::transport::Listener> listener_;
};

// Two ends of a channel.
struct Link {
  Link(Wires& wires, tensorpipe::channel::Context& near_context,
       tensorpipe::channel::Context& far_context);

  std::shared_ptr<tensorpipe::channel::Channel> near;
  std::shared_ptr<tensorpipe::channel::Channel> far;
};

using Result = std::future<tensorpipe::Error>;

Result Send(tensorpipe::channel::Channel& channel, void* bytes, size_t length);
Result Receive(tensorpipe::channel::Channel& channel, void* into,
               size_t length);

// Waits a minute for a result. Returns an error if none has come by then.
tensorpipe::Error Await(Result& result);

struct Tally {
  int right = 0;    // reported as good, and were
  int wrong = 0;    // reported as good, and were not
  int refused = 0;  // reported as failed
};

// Sends some tensors of 1 MiB from `from` to `to`, and closes one end at a
// random moment. The sender's memory is overwritten right in the callbacks that
// tell of the error.
Tally CutInMidFlight(Wires& wires, tensorpipe::channel::Context& from,
                     tensorpipe::channel::Context& to, std::mt19937& random);

}  // namespace reprise

#endif  // REPRISE_TESTS_UNIT_TRANSPORT_CMA_TESTING_H_

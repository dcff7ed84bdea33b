// A worker's agent whose handler turns the bytes of tensors round, by the GPUs
// that they are on, and may let others do the same before it answers.

#ifndef REPRISE_TESTS_SCENARIOS_GPU_AGENT_H_
#define REPRISE_TESTS_SCENARIOS_GPU_AGENT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/agent.h"
#include "sim/scenario/scenario.h"
#include "tests/scenarios/gpu_work.h"

namespace reprise::scenarios {

// What a handler is asked to do with each tensor of one dimension. Others are
// sent back as they are.
struct GpuCall {
  enum Way : int64_t {
    kSilent,     // on the streams that it got, and it names none
    kNamed,      // on these, and it names them
    kOwnStream,  // on a stream of its own, which it names
    kNumWays
  };

  int64_t turn = 0;           // by how many bytes each handler turns them
  int64_t way = kSilent;      // how it says where its reply is ready
  int64_t reply_device = -1;  // the GPU on which the result is; -1: the same
  std::vector<int> via = {};  // the ranks that it goes through after the first

  std::string ToPayload() const;
};

// Thread-safe. Must not outlive its worker and `work`.
class GpuAgent {
 public:
  static absl::StatusOr<std::unique_ptr<GpuAgent>> Start(Worker& worker,
                                                         GpuWork& work,
                                                         AgentOptions options,
                                                         absl::Time deadline);
  ~GpuAgent();

  Agent& agent() { return *agent_; }

  // `request` has the tensors and all that concerns them. The payload of a
  // reply is the devices on which the tensors of the request arrived:
  // "cuda:1 cpu:0".
  Future Send(std::string_view to, const GpuCall& call, Message request,
              const CallOptions& options = {});

 private:
  struct State;
  GpuAgent(std::shared_ptr<State> state, std::unique_ptr<Agent> agent);

  const std::shared_ptr<State> state_;
  const std::unique_ptr<Agent> agent_;
};

}  // namespace reprise::scenarios

#endif  // REPRISE_TESTS_SCENARIOS_GPU_AGENT_H_

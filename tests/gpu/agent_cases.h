// What a client on a GPU does with its server, and what must come of it.

#ifndef REPRISE_TESTS_GPU_AGENT_CASES_H_
#define REPRISE_TESTS_GPU_AGENT_CASES_H_

#include <string>

#include "agent/agent.h"
#include "tests/gpu/gpu.h"
#include "tests/gpu/results.h"

namespace reprise::gpu {

enum class AgentCases {
  kTensors,  // dtypes, views, sizes, streams; with a map in the agent's options
  kMaps,     // maps of single calls; there is none in the agent's options
  kErrors,   // no memory, no such device
};

struct CaseContext {
  Gpu& gpu;
  Agent& client;
  Results& results;
  std::string name;  // of the group, for the report
  bool is_one_process = false;
};

void RunCases(const CaseContext& context, AgentCases cases);

// The parts of it.
void RunTensorCases(const CaseContext& context);
void RunMapCases(const CaseContext& context);
void RunErrorCases(const CaseContext& context);

// The request "TEXT" with these tensors on `streams`. The status is that of the
// call.
absl::StatusOr<Message> Call(const CaseContext& context, std::string text,
                             std::vector<Tensor> tensors,
                             const StreamSet& streams,
                             CallOptions options = {});

}  // namespace reprise::gpu

#endif  // REPRISE_TESTS_GPU_AGENT_CASES_H_

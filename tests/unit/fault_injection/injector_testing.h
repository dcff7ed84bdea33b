// A group on which faults show their effects: two workers, one of which goes on
// calling the other.

#ifndef REPRISE_TESTS_UNIT_FAULT_INJECTION_INJECTOR_TESTING_H_
#define REPRISE_TESTS_UNIT_FAULT_INJECTION_INJECTOR_TESTING_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "agent/device/tensor.h"
#include "sim/explore/sim_run.h"
#include "sim/scenario/scenario.h"

namespace reprise {

// w1 calls w0 every 100 ms for three seconds and goes on whatever comes.
inline void KeepCalling(Worker& worker) {
  auto agent =
      Agent::Start(worker.environment(), worker.options(),
                   Blocking([](Message message,
                               const RequestInfo&) -> absl::StatusOr<Message> {
                     message.type = MessageType::kScriptRet;
                     return message;
                   }),
                   worker.In(absl::Seconds(60)));
  if (!agent.ok()) {
    worker.Note("start: " + agent.status().ToString());
    return;
  }
  for (int i = 0; worker.rank() == 1 && i < 30; ++i) {
    Message request;
    request.type = MessageType::kScriptCall;
    request.payload.assign(1000, 'x');
    if (worker.param("tensor_bytes") > 0) {
      const int64_t bytes = worker.param("tensor_bytes");
      Tensor tensor = *MakeTensor(DType::kUInt8, {bytes});
      std::memset(tensor.storage->data(), 1, static_cast<size_t>(bytes));
      request.tensors.push_back(std::move(tensor));
    }
    Future reply = (*agent)->Send(WorkerId{0}, std::move(request),
                                  {.timeout = absl::Milliseconds(500)});
    reply.Wait();
    worker.Sleep(absl::Milliseconds(100));
  }
  if (worker.rank() == 0) worker.Sleep(absl::Seconds(4));
  (*agent)->Shutdown(worker.In(absl::Seconds(10))).IgnoreError();
}

// Whatever rule it violates.
inline RunResult RunPlan(const std::vector<std::string>& faults,
                         int64_t tensor_bytes = 0) {
  static const Scenario scenario = [] {
    Scenario made;
    made.name = "keep_calling";
    made.workers = 2;
    made.params = {{"tensor_bytes", 0}};
    made.body = KeepCalling;
    return made;
  }();
  SimRunOptions options;
  options.params = {{"tensor_bytes", tensor_bytes}};
  options.scenario = &scenario;
  options.faults = faults;
  options.keep_trace = true;
  auto result = RunSimulated(options);
  EXPECT_TRUE(result.ok()) << result.status();
  return *std::move(result);
}

inline RunResult RunWith(const std::vector<std::string>& faults,
                         int64_t tensor_bytes = 0) {
  RunResult result = RunPlan(faults, tensor_bytes);
  EXPECT_EQ(result.rule, "") << result.detail;
  return result;
}

inline int64_t Count(const RunResult& result, EventKind kind,
                     int32_t node = -2) {
  return std::count_if(
      result.events.begin(), result.events.end(), [&](const Event& event) {
        return event.kind == kind && (node == -2 || event.node == node);
      });
}

inline int64_t FailedCalls(const RunResult& result, absl::StatusCode code) {
  return std::count_if(
      result.events.begin(), result.events.end(), [&](const Event& event) {
        return event.kind == EventKind::kCallCompleted && event.code() == code;
      });
}

inline int64_t Injections(const RunResult& result, const std::string& kind) {
  auto it = result.injections.find(kind);
  return it == result.injections.end() ? 0 : it->second;
}

}  // namespace reprise

#endif  // REPRISE_TESTS_UNIT_FAULT_INJECTION_INJECTOR_TESTING_H_

// An observer that counts what it hears and lets a test wait for it.

#ifndef REPRISE_TESTS_UNIT_AGENT_RECORDER_H_
#define REPRISE_TESTS_UNIT_AGENT_RECORDER_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/observer.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"

namespace reprise::testing {

// Events are named "started", "started <label>", "completed", "late",
// "request", "reply", "pipe connected <peer>" and the like, "listening",
// "listener failed", "entered <n>", "left <n>", "shutdown".
class Recorder : public Observer {
 public:
  // Waits until the event has come `times` times; returns false if it has not.
  bool WaitFor(const std::string& event, int times = 1);
  int Count(const std::string& event);
  std::vector<std::string> events();

  void OnCallStarted(WorkerId to, int64_t call_id, const Message& request,
                     absl::Time deadline, std::string_view label) override;
  void OnCallCompleted(WorkerId to, int64_t call_id, const absl::Status& status,
                       const Message* reply) override;
  void OnCallRetried(WorkerId to, int64_t call_id,
                     int64_t first_call_id) override;
  void OnLateReply(WorkerId from, int64_t call_id) override;
  void OnRequest(std::string_view caller, int64_t call_id,
                 const Message& request) override;
  void OnReply(std::string_view caller, int64_t call_id,
               const absl::Status& status, const Message* reply) override;
  void OnPipe(PipeEvent event, std::string_view peer,
              const absl::Status& status) override;
  void OnListening(std::string_view address) override;
  void OnListenerFailed(const absl::Status& status) override;
  void OnBarrierEntered(int64_t barrier) override;
  void OnBarrierLeft(int64_t barrier, const absl::Status& status) override;
  void OnShutdown() override;

 private:
  void Record(std::string event);

  Mutex mutex_{RealRuntime(), "Recorder"};
  CondVar changed_{RealRuntime(), "Recorder.changed"};
  std::vector<std::string> events_;
  // Calls that were started and not completed.
  std::map<std::pair<WorkerId, int64_t>, int> open_calls_;
};

}  // namespace reprise::testing

#endif  // REPRISE_TESTS_UNIT_AGENT_RECORDER_H_

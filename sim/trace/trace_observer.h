// Turns what an agent reports into events of the trace.

#ifndef REPRISE_SIM_TRACE_TRACE_OBSERVER_H_
#define REPRISE_SIM_TRACE_TRACE_OBSERVER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "agent/observer.h"
#include "sim/trace/trace.h"

namespace reprise {

// As thread-safe as the recorder and the clock that it is made with.
class TraceObserver : public Observer {
 public:
  // Called once for each event, on the thread on which it happens.
  using Recorder = std::function<void(const EventDetails& details)>;
  // Maps a deadline to the nanoseconds of the trace. An infinite deadline is
  // the highest int64_t.
  using ToNanoseconds = std::function<int64_t(absl::Time)>;

  // `with_elements`: as for `Digest` (sim/trace/digest.h).
  TraceObserver(Recorder record, ToNanoseconds to_ns, bool with_elements = true)
      : record_(std::move(record)),
        to_ns_(std::move(to_ns)),
        with_elements_(with_elements) {}

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
  void OnMember(std::string_view name, WorkerId id, bool joined) override;
  void OnShutdown() override;
  void OnNote(std::string_view text) override;

 private:
  // 0 for no message.
  uint64_t DigestOf(const Message* message) const;

  const Recorder record_;
  const ToNanoseconds to_ns_;
  const bool with_elements_;
};

}  // namespace reprise

#endif  // REPRISE_SIM_TRACE_TRACE_OBSERVER_H_

// A sharded parameter server: shards hold parts of the parameters, trainers
// push gradients to all of them and pull the values. It is an example to copy:
// each part uses what docs/services.md describes.
//
// A push is applied exactly once, whatever is resent and whoever restarts: it
// has a number, the shard remembers the last one of each trainer, and both are
// in the checkpoint, which is written before the push is acknowledged.

#ifndef OUTSIDE_PARAMETER_SERVER_H_
#define OUTSIDE_PARAMETER_SERVER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/agent.h"
#include "agent/runtime/mutex.h"

namespace outside {

// One shard, and the agent that serves it. Thread-safe.
class ParameterShard {
 public:
  // Meets the group, reads the last checkpoint of a shard of this name, and
  // serves.
  static absl::StatusOr<std::unique_ptr<ParameterShard>> Start(
      const reprise::Environment& environment, reprise::AgentOptions options,
      int64_t num_values, absl::Time deadline);

  // Finishes the requests that it has, refuses others, and shuts down.
  absl::Status Stop(absl::Time deadline);

 private:
  // What a checkpoint holds.
  struct State {
    std::vector<float> values;
    std::map<std::string, int64_t> applied;  // the last push, by trainer
  };

  ParameterShard(const reprise::Environment& environment,
                 const std::string& name, int64_t num_values);

  absl::Status Restore(absl::Time deadline);
  absl::Status WriteCheckpoint(const State& state, absl::Time deadline);
  absl::StatusOr<reprise::Message> Handle(const reprise::Message& request,
                                          const reprise::RequestInfo& info);
  absl::StatusOr<reprise::Message> Push(const reprise::Message& request,
                                        int64_t number,
                                        const reprise::RequestInfo& info);
  absl::StatusOr<reprise::Message> Pull();

  reprise::Runtime& runtime_;
  const std::shared_ptr<reprise::Store> store_;
  const std::string checkpoint_key_;
  reprise::Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<reprise::Agent> agent_;
};

// The trainer's side, over an agent of the same group, which must outlive it.
class ParameterClient {
 public:
  ParameterClient(reprise::Runtime& runtime, reprise::Agent& agent,
                  std::vector<std::string> shards)
      : runtime_(runtime), agent_(agent), shards_(std::move(shards)) {}

  // Adds `gradient` to the values of every shard. The first push of a trainer
  // has the number 1, and each has one more than the push before.
  absl::Status Push(int64_t number, const std::vector<float>& gradient,
                    absl::Duration timeout);

  // The values of all shards, one after another.
  absl::StatusOr<std::vector<float>> Pull(absl::Duration timeout);

 private:
  std::vector<reprise::Future> SendToAll(const reprise::Message& request,
                                         const std::string& label,
                                         reprise::Lane lane,
                                         absl::Duration timeout);

  reprise::Runtime& runtime_;
  reprise::Agent& agent_;
  const std::vector<std::string> shards_;
};

}  // namespace outside

#endif  // OUTSIDE_PARAMETER_SERVER_H_

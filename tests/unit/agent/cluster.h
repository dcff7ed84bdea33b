// Several agents of one group in the test's process, over real transports.

#ifndef REPRISE_TESTS_UNIT_AGENT_CLUSTER_H_
#define REPRISE_TESTS_UNIT_AGENT_CLUSTER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "agent/agent.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"
#include "agent/store/memory_store.h"
#include "agent/store/store.h"

namespace reprise::testing {

// A deadline so late that only a test that hangs reaches it.
absl::Time Soon();

// The options of worker "w<id>", over uv on the loopback interface.
AgentOptions OptionsFor(int64_t id, int64_t world_size);
// The same for a member of a dynamic group, with a short refresh and lease.
AgentOptions Dynamic(std::string name, int64_t id);

// A gate that is opened once. Waiting for it ends at `Soon()` at the latest.
class Gate {
 public:
  Gate();
  void Open();
  bool Wait();

 private:
  Mutex mutex_;
  CondVar changed_;
  bool open_ = false;
};

// A handler that answers with the request's payload and tensors.
RequestHandler Echo();
// A handler that does so when `gate` is open. `gate` must outlive the agent.
RequestHandler EchoAfter(Gate& gate);

Message Request(std::string payload);

// Shuts down the socket of this process's listener at "uv://127.0.0.1:port".
void BreakListener(const std::string& url);

class Cluster {
 public:
  using Customize = std::function<void(AgentOptions&)>;

  explicit Cluster(std::shared_ptr<Store> store = nullptr);
  ~Cluster();

  // Starts workers w0 .. w<size-1> at the same time, and expects that to work.
  void Start(int64_t size, RequestHandler handler,
             const Customize& customize = {});

  // Starts the workers and returns the status of each, by id.
  std::vector<absl::Status> TryStart(std::vector<AgentOptions> options,
                                     RequestHandler handler,
                                     absl::Time deadline);

  // Starts one worker, again if it was started before.
  absl::Status StartOne(AgentOptions options, RequestHandler handler,
                        absl::Time deadline);

  Agent& operator[](int64_t id) { return *agents_[id]; }
  bool has(int64_t id) const { return agents_[id] != nullptr; }
  void Stop(int64_t id) { agents_[id] = nullptr; }

  // Calls `f(id)` for each worker, each on a thread of its own.
  void OnEach(const std::function<void(int64_t)>& f);

  const std::shared_ptr<Store>& store() const { return store_; }
  // Sets the observer of agents that are started from now on; may be null.
  void set_observer(Observer* observer) { observer_ = observer; }
  // The same for their GPUs.
  void set_devices(Devices* devices) { devices_ = devices; }

 private:
  std::shared_ptr<Store> store_;
  Observer* observer_ = nullptr;
  Devices* devices_ = nullptr;
  std::vector<std::unique_ptr<Agent>> agents_;
};

}  // namespace reprise::testing

#endif  // REPRISE_TESTS_UNIT_AGENT_CLUSTER_H_

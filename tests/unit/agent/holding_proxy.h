// A TCP proxy that holds bytes up, between a caller and the worker that it
// calls.
//
//   cluster.Start(2, handler);
//   HoldingProxy proxy(PortOfWorker(cluster, 1));
//   StartCallerThrough(cluster, proxy.port());
//   proxy.Hold(HoldingProxy::kFromTarget, 1000);   // in the middle of a reply
//   const Future call = cluster[0].Send("w1", ...);
//   ASSERT_TRUE(proxy.WaitUntilHeld());

#ifndef REPRISE_TESTS_UNIT_AGENT_HOLDING_PROXY_H_
#define REPRISE_TESTS_UNIT_AGENT_HOLDING_PROXY_H_

#include <array>
#include <cstdint>
#include <vector>

#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"
#include "tests/unit/agent/cluster.h"

namespace reprise::testing {

// The port that this worker's address in the store has.
int PortOfWorker(Cluster& cluster, int64_t id);

// Starts w0 of two workers again, so that it connects to w1 at `port` of the
// loopback interface. Pauses before it connects again are short.
void StartCallerThrough(Cluster& cluster, int port,
                        const Cluster::Customize& customize = {});

// Thread-safe.
class HoldingProxy {
 public:
  enum Way { kToTarget, kFromTarget, kNumWays };

  // Forwards connections to `target`, a port of the loopback interface.
  explicit HoldingProxy(int target);
  ~HoldingProxy();
  HoldingProxy(const HoldingProxy&) = delete;
  HoldingProxy& operator=(const HoldingProxy&) = delete;

  int port() const { return port_; }

  // Forwards so many further bytes this way, of all connections together, and
  // then none.
  void Hold(Way way, int64_t after_bytes);
  // Waits until so many were forwarded. Returns false at `Soon()`.
  bool WaitUntilHeld();
  // Holds nothing any more.
  void Release();
  // Breaks the connections that there are.
  void Break();

 private:
  // `ends[kToTarget]` is read to forward to the target.
  struct Connection {
    std::array<int, kNumWays> ends;
  };

  void Run();
  void Accept();
  // Returns false when the connection is at its end.
  bool Forward(const Connection& connection, Way way);
  void Wake();

  const int target_;
  int listener_ = -1;
  int wakeup_ = -1;
  int port_ = 0;
  Mutex mutex_{RealRuntime(), "HoldingProxy"};
  CondVar changed_{RealRuntime(), "HoldingProxy.changed"};
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::array<int64_t, kNumWays> room_ ABSL_GUARDED_BY(mutex_);
  std::vector<Connection> connections_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<Thread> thread_;
};

}  // namespace reprise::testing

#endif  // REPRISE_TESTS_UNIT_AGENT_HOLDING_PROXY_H_

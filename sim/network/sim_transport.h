// The simulated transport as TensorPipe sees it: its contexts, listeners and
// connections keep the contract that those of our transport uv keep, with the
// same texts of errors (tests/unit/transport/contract_test.cc).

#ifndef REPRISE_SIM_NETWORK_SIM_TRANSPORT_H_
#define REPRISE_SIM_NETWORK_SIM_TRANSPORT_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "agent/transport/arrivals.h"
#include "sim/network/network.h"
#include "tensorpipe/transport/connection.h"
#include "tensorpipe/transport/context.h"
#include "tensorpipe/transport/listener.h"

namespace reprise {

class SimListener;

// The open ends and listeners of one context, in the order in which they were
// made. All three classes below share it.
struct SimContext {
  Network& network;
  Node& node;
  const std::shared_ptr<PipeArrivals> arrivals;
  bool is_closed = false;
  bool has_joined = false;
  uint64_t num_made = 0;
  std::map<uint64_t, Endpoint*> ends = {};
  std::map<uint64_t, SimListener*> listeners = {};
};

// A listener at one address. The state is shared with the work that is posted
// to the transport thread.
class SimListener : public tensorpipe::transport::Listener {
 public:
  SimListener(std::shared_ptr<SimContext> context, std::string wanted);
  ~SimListener() override;

  void accept(accept_callback_fn done) override;
  std::string addr() const override { return address_; }
  void setId(std::string /*id*/) override {}
  void close() override;
  void CallBackInline();

  void Arrived(std::shared_ptr<Endpoint> server);
  // Whether the kernel would take no more connections, since the transport
  // thread does not run.
  bool is_backlog_full() const;
  Node& node() const { return context_->node; }

 private:
  struct State;

  void Fail(const tensorpipe::Error& error);
  void PostProgress();
  static void Progress(const std::shared_ptr<State>& state);
  // Whether connections have arrived and there are no descriptors for them.
  // Then it looks again when there may be.
  static bool AwaitsDescriptors(const std::shared_ptr<State>& state);

  const std::shared_ptr<SimContext> context_;
  const uint64_t number_;
  const std::shared_ptr<State> state_;
  std::string address_;
};

// `join` returns when no callback is left to be called; afterwards they are
// called inline. It waits for the transport thread, and so does the destructor.
class SimTransport : public tensorpipe::transport::Context {
 public:
  SimTransport(Network& network, Node& node, std::string_view name,
               std::shared_ptr<PipeArrivals> arrivals);
  ~SimTransport() override;

  std::shared_ptr<tensorpipe::transport::Connection> connect(
      std::string address) override;
  std::shared_ptr<tensorpipe::transport::Listener> listen(
      std::string address) override;
  bool isViable() const override { return true; }
  const std::string& domainDescriptor() const override { return domain_; }
  void setId(std::string /*id*/) override {}
  void close() override;
  void join() override;

 private:
  const std::shared_ptr<SimContext> context_;
  const std::string domain_;
};

}  // namespace reprise

#endif  // REPRISE_SIM_NETWORK_SIM_TRANSPORT_H_

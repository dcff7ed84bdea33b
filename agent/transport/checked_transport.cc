#include "agent/transport/checked_transport.h"

#include <utility>

#include "agent/transport/checked_connection.h"
#include "agent/transport/checked_listener.h"
#include "tensorpipe/transport/connection.h"
#include "tensorpipe/transport/listener.h"

namespace reprise {
namespace {

using tensorpipe::transport::Connection;
using tensorpipe::transport::Context;
using tensorpipe::transport::Listener;

class CheckedContext final : public Context {
 public:
  CheckedContext(std::shared_ptr<const CheckedCommon> common,
                 std::shared_ptr<Context> inner, bool is_for_core,
                 DescriptorRoom& room)
      : common_(std::move(common)),
        inner_(std::move(inner)),
        is_for_core_(is_for_core),
        room_(room) {}

  std::shared_ptr<Connection> connect(std::string address) override {
    return CheckedConnection::Make(common_, inner_->connect(address),
                                   /*is_caller=*/true, address);
  }
  std::shared_ptr<Listener> listen(std::string address) override {
    return std::make_shared<CheckedListener>(
        common_, inner_->listen(std::move(address)), is_for_core_, room_);
  }
  bool isViable() const override { return inner_->isViable(); }
  const std::string& domainDescriptor() const override {
    return inner_->domainDescriptor();
  }
  bool canCommunicateWithRemote(const std::string& domain) const override {
    return inner_->canCommunicateWithRemote(domain);
  }
  void setId(std::string id) override { inner_->setId(std::move(id)); }
  void close() override { inner_->close(); }
  void join() override {
    inner_->join();
    // The thread of `DescriptorRoom` is none of the inner context's.
    common_->foreign_calls->Await();
  }

 private:
  const std::shared_ptr<const CheckedCommon> common_;
  const std::shared_ptr<Context> inner_;
  const bool is_for_core_;
  DescriptorRoom& room_;
};

}  // namespace

std::shared_ptr<Context> MakeChecked(std::string transport,
                                     std::shared_ptr<Context> inner,
                                     std::shared_ptr<PeerCheck> check,
                                     CheckedUse use, DescriptorRoom& room) {
  auto common = std::make_shared<const CheckedCommon>(
      CheckedCommon{std::move(transport), std::move(check)});
  return std::make_shared<CheckedContext>(std::move(common), std::move(inner),
                                          use == CheckedUse::kCore, room);
}

}  // namespace reprise

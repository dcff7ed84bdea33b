#include "agent/transport/checked_transport.h"

#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/transport/object_reader.h"
#include "agent/transport/peer_liveness.h"
#include "glog/logging.h"
#include "tensorpipe/common/error.h"
#include "tensorpipe/core/nop_types.h"
#include "tensorpipe/transport/connection.h"
#include "tensorpipe/transport/listener.h"

namespace reprise {
namespace {

using tensorpipe::AbstractNopHolder;
using tensorpipe::BrochureAnswer;
using tensorpipe::Error;
using tensorpipe::NopHolder;
using tensorpipe::Packet;
using tensorpipe::transport::Connection;
using tensorpipe::transport::Context;
using tensorpipe::transport::Listener;

class ProtocolError final : public tensorpipe::BaseError {
 public:
  explicit ProtocolError(std::string why) : why_(std::move(why)) {}
  std::string what() const override {
    return absl::StrCat("EPROTO: the peer ", why_);
  }

 private:
  const std::string why_;
};

// What all parts of one transport share.
struct Common {
  const std::string transport;
  const std::shared_ptr<PeerCheck> check;
};

class CheckedConnection : public Connection {
 public:
  CheckedConnection(std::shared_ptr<const Common> common,
                    std::shared_ptr<Connection> inner, bool is_caller)
      : common_(std::move(common)),
        inner_(std::move(inner)),
        is_caller_(is_caller) {}

  void read(read_callback_fn done) override { inner_->read(std::move(done)); }
  void read(void* into, size_t length, read_callback_fn done) override {
    inner_->read(into, length, std::move(done));
  }
  void read(AbstractNopHolder& object, read_nop_callback_fn done) override {
    inner_->read([common = common_, inner = std::weak_ptr<Connection>(inner_),
                  is_caller = is_caller_, &object, done = std::move(done)](
                     const Error& error, const void* frame, size_t size) {
      if (error) {
        done(error);
        return;
      }
      const std::string wrong = Receive(
          *common, {static_cast<const char*>(frame), size}, is_caller, object);
      if (wrong.empty()) {
        done(Error::kSuccess);
        return;
      }
      LOG_EVERY_N(WARNING, 100) << "a connection over " << common->transport
                                << " is closed: the peer " << wrong;
      done(Error(std::make_shared<ProtocolError>(wrong), __FILE__, __LINE__));
      if (const auto connection = inner.lock()) connection->close();
    });
  }
  void write(const void* bytes, size_t length,
             write_callback_fn done) override {
    inner_->write(bytes, length, std::move(done));
  }
  void write(const AbstractNopHolder& object, write_callback_fn done) override {
    if (const auto* const answer =
            dynamic_cast<const NopHolder<BrochureAnswer>*>(&object)) {
      common_->check->HandOut(answer->getObject());
    }
    inner_->write(object, std::move(done));
  }
  void setId(std::string id) override { inner_->setId(std::move(id)); }
  void close() override { inner_->close(); }

 private:
  // Empty when all is well.
  static std::string Receive(const Common& common, std::string_view frame,
                             bool is_caller, AbstractNopHolder& object) {
    std::string wrong =
        ReadObject(frame, {common.transport, is_caller}, *common.check, object);
    if (!wrong.empty()) return wrong;
    if (auto* const hello = dynamic_cast<NopHolder<Packet>*>(&object)) {
      common.check->Claim(common.transport, hello->getObject());
    }
    return "";
  }

  const std::shared_ptr<const Common> common_;
  const std::shared_ptr<Connection> inner_;
  const bool is_caller_;
};

// Of a transport that knows about its peers.
class CheckedLiveConnection final : public CheckedConnection,
                                    public PeerLiveness {
 public:
  CheckedLiveConnection(std::shared_ptr<const Common> common,
                        const std::shared_ptr<Connection>& inner,
                        PeerLiveness& liveness, bool is_caller)
      : CheckedConnection(std::move(common), inner, is_caller),
        liveness_(inner, &liveness) {}

  bool PeerIsOpen() override { return liveness_->PeerIsOpen(); }
  std::optional<pid_t> PeerPid() override { return liveness_->PeerPid(); }
  bool PeerIsProcess(pid_t pid) override {
    return liveness_->PeerIsProcess(pid);
  }

 private:
  const std::shared_ptr<PeerLiveness> liveness_;
};

std::shared_ptr<Connection> CheckConnection(
    const std::shared_ptr<const Common>& common,
    std::shared_ptr<Connection> inner, bool is_caller) {
  if (auto* const liveness = dynamic_cast<PeerLiveness*>(inner.get())) {
    return std::make_shared<CheckedLiveConnection>(common, inner, *liveness,
                                                   is_caller);
  }
  return std::make_shared<CheckedConnection>(common, std::move(inner),
                                             is_caller);
}

class CheckedListener final : public Listener {
 public:
  CheckedListener(std::shared_ptr<const Common> common,
                  std::shared_ptr<Listener> inner)
      : common_(std::move(common)), inner_(std::move(inner)) {}

  void accept(accept_callback_fn done) override {
    inner_->accept([common = common_, done = std::move(done)](
                       const Error& error, std::shared_ptr<Connection> inner) {
      std::shared_ptr<Connection> connection;
      if (inner != nullptr) {
        connection =
            CheckConnection(common, std::move(inner), /*is_caller=*/false);
      }
      done(error, std::move(connection));
    });
  }
  std::string addr() const override { return inner_->addr(); }
  void setId(std::string id) override { inner_->setId(std::move(id)); }
  void close() override { inner_->close(); }

 private:
  const std::shared_ptr<const Common> common_;
  const std::shared_ptr<Listener> inner_;
};

class CheckedContext final : public Context {
 public:
  CheckedContext(std::shared_ptr<const Common> common,
                 std::shared_ptr<Context> inner)
      : common_(std::move(common)), inner_(std::move(inner)) {}

  std::shared_ptr<Connection> connect(std::string address) override {
    return CheckConnection(common_, inner_->connect(std::move(address)),
                           /*is_caller=*/true);
  }
  std::shared_ptr<Listener> listen(std::string address) override {
    return std::make_shared<CheckedListener>(
        common_, inner_->listen(std::move(address)));
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
  void join() override { inner_->join(); }

 private:
  const std::shared_ptr<const Common> common_;
  const std::shared_ptr<Context> inner_;
};

}  // namespace

std::shared_ptr<Context> MakeChecked(std::string transport,
                                     std::shared_ptr<Context> inner,
                                     std::shared_ptr<PeerCheck> check) {
  auto common = std::make_shared<const Common>(
      Common{std::move(transport), std::move(check)});
  return std::make_shared<CheckedContext>(std::move(common), std::move(inner));
}

}  // namespace reprise

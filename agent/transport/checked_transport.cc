#include "agent/transport/checked_transport.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/transport/arrivals.h"
#include "agent/transport/object_reader.h"
#include "agent/transport/peer_liveness.h"
#include "glog/logging.h"
#include "tensorpipe/channel/mpt/nop_types.h"
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
using MptPacket = tensorpipe::channel::mpt::Packet;

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

// When bytes last arrived on one connection. Closures that `inner` keeps may
// hold it, so it does not keep `inner` alive.
class ConnectionClock final : public ArrivalClock {
 public:
  // `address` is that of the listener at the callee's end.
  ConnectionClock(std::shared_ptr<PipeArrivals> arrivals,
                  const std::shared_ptr<Connection>& inner, std::string address)
      : arrivals_(std::move(arrivals)),
        inner_(inner),
        clock_(dynamic_cast<ArrivalClock*>(inner.get())),
        address_(std::move(address)) {}
  ~ConnectionClock() override { arrivals_->Leave(this); }

  absl::Duration SinceArrival() override {
    const std::shared_ptr<Connection> alive = inner_.lock();
    if (alive == nullptr) return absl::InfiniteDuration();
    if (clock_ != nullptr) return clock_->SinceArrival();
    const int64_t last_ns = last_read_ns_;
    return last_ns == 0 ? absl::InfiniteDuration()
                        : absl::Nanoseconds(NowNs() - last_ns);
  }

  // Whether we must note arriving frames ourselves, because the transport has
  // no clock of its own.
  bool counts_frames() const { return clock_ == nullptr; }
  void NoteFrame() { last_read_ns_ = NowNs(); }

  void SetId(std::string_view id) { pipe_ = arrivals_->Enter(id, this); }
  // A hello on this connection, sent or received.
  void NoteHello(const MptPacket& hello) {
    if (const auto* const offer =
            hello.get<tensorpipe::channel::mpt::ServerHello>()) {
      arrivals_->OfferLanes(pipe_, *offer);
    } else if (const auto* const claim =
                   hello.get<tensorpipe::channel::mpt::ClientHello>()) {
      arrivals_->ClaimLane(address_, *claim, this);
    }
  }

 private:
  static int64_t NowNs() {
    return std::chrono::nanoseconds(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }

  const std::shared_ptr<PipeArrivals> arrivals_;
  const std::weak_ptr<Connection> inner_;
  ArrivalClock* const clock_;  // the inner connection's own; may be null
  const std::string address_;
  std::atomic<uint64_t> pipe_ = 0;
  std::atomic<int64_t> last_read_ns_ = 0;
};

class CheckedConnection : public Connection {
 public:
  CheckedConnection(std::shared_ptr<const Common> common,
                    std::shared_ptr<Connection> inner, bool is_caller,
                    std::string address)
      : common_(std::move(common)),
        inner_(std::move(inner)),
        is_caller_(is_caller),
        clock_(std::make_shared<ConnectionClock>(common_->check->arrivals(),
                                                 inner_, std::move(address))) {}

  void read(read_callback_fn done) override {
    inner_->read(Counted(std::move(done)));
  }
  void read(void* into, size_t length, read_callback_fn done) override {
    inner_->read(into, length, Counted(std::move(done)));
  }
  void read(AbstractNopHolder& object, read_nop_callback_fn done) override {
    inner_->read([common = common_, clock = clock_,
                  inner = std::weak_ptr<Connection>(inner_),
                  is_caller = is_caller_, &object, done = std::move(done)](
                     const Error& error, const void* frame, size_t size) {
      if (error) {
        done(error);
        return;
      }
      if (clock->counts_frames()) clock->NoteFrame();
      const std::string wrong =
          Receive(*common, *clock, {static_cast<const char*>(frame), size},
                  is_caller, object);
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
    } else if (const auto* const hello =
                   dynamic_cast<const NopHolder<MptPacket>*>(&object)) {
      clock_->NoteHello(hello->getObject());
    }
    inner_->write(object, std::move(done));
  }
  void setId(std::string id) override {
    clock_->SetId(id);
    inner_->setId(std::move(id));
  }
  void close() override { inner_->close(); }

 private:
  // Returns what is wrong; empty when all is well.
  static std::string Receive(const Common& common, ConnectionClock& clock,
                             std::string_view frame, bool is_caller,
                             AbstractNopHolder& object) {
    std::string wrong =
        ReadObject(frame, {common.transport, is_caller}, *common.check, object);
    if (!wrong.empty()) return wrong;
    if (auto* const hello = dynamic_cast<NopHolder<Packet>*>(&object)) {
      common.check->Claim(common.transport, hello->getObject());
      common.check->arrivals()->NumberCaller(hello->getObject());
    } else if (auto* const lane =
                   dynamic_cast<NopHolder<MptPacket>*>(&object)) {
      clock.NoteHello(lane->getObject());
    }
    return "";
  }

  read_callback_fn Counted(read_callback_fn done) {
    if (!clock_->counts_frames()) return done;
    return [clock = clock_, done = std::move(done)](
               const Error& error, const void* frame, size_t size) {
      if (!error) clock->NoteFrame();
      done(error, frame, size);
    };
  }

  const std::shared_ptr<const Common> common_;
  const std::shared_ptr<Connection> inner_;
  const bool is_caller_;
  const std::shared_ptr<ConnectionClock> clock_;
};

// A connection of a transport that knows about its peers.
class CheckedLiveConnection final : public CheckedConnection,
                                    public PeerLiveness {
 public:
  CheckedLiveConnection(std::shared_ptr<const Common> common,
                        const std::shared_ptr<Connection>& inner,
                        PeerLiveness& liveness, bool is_caller,
                        std::string address)
      : CheckedConnection(std::move(common), inner, is_caller,
                          std::move(address)),
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
    std::shared_ptr<Connection> inner, bool is_caller, std::string address) {
  if (auto* const liveness = dynamic_cast<PeerLiveness*>(inner.get())) {
    return std::make_shared<CheckedLiveConnection>(
        common, inner, *liveness, is_caller, std::move(address));
  }
  return std::make_shared<CheckedConnection>(common, std::move(inner),
                                             is_caller, std::move(address));
}

class CheckedListener final : public Listener {
 public:
  CheckedListener(std::shared_ptr<const Common> common,
                  std::shared_ptr<Listener> inner)
      : common_(std::move(common)), inner_(std::move(inner)) {}

  void accept(accept_callback_fn done) override {
    inner_->accept(
        [common = common_, address = inner_->addr(), done = std::move(done)](
            const Error& error, std::shared_ptr<Connection> inner) {
          std::shared_ptr<Connection> connection;
          if (inner != nullptr) {
            connection = CheckConnection(common, std::move(inner),
                                         /*is_caller=*/false, address);
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
    return CheckConnection(common_, inner_->connect(address),
                           /*is_caller=*/true, address);
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

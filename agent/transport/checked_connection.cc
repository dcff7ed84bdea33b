#include "agent/transport/checked_connection.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/transport/arrivals.h"
#include "agent/transport/object_reader.h"
#include "agent/transport/peer_liveness.h"
#include "glog/logging.h"
#include "tensorpipe/channel/mpt/nop_types.h"
#include "tensorpipe/core/nop_types.h"

namespace reprise {

using tensorpipe::AbstractNopHolder;
using tensorpipe::BrochureAnswer;
using tensorpipe::Error;
using tensorpipe::NopHolder;
using tensorpipe::Packet;
using tensorpipe::transport::Connection;
using MptPacket = tensorpipe::channel::mpt::Packet;

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
  void NoteAnswer(const BrochureAnswer& answer, bool is_caller) {
    arrivals_->NoteAnswer(pipe_, answer, is_caller);
  }
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

namespace {

class ProtocolError final : public tensorpipe::BaseError {
 public:
  explicit ProtocolError(std::string why) : why_(std::move(why)) {}
  std::string what() const override {
    return absl::StrCat("EPROTO: the peer ", why_);
  }

 private:
  const std::string why_;
};

CheckedConnection::Hello KindOf(const CheckedCommon& common,
                                std::string_view frame) {
  NopHolder<Packet> hello;
  if (!ReadObject(frame, {common.transport, /*is_caller=*/false}, *common.check,
                  hello)
           .empty()) {
    return CheckedConnection::Hello::kNone;
  }
  return hello.getObject().is<tensorpipe::SpontaneousConnection>()
             ? CheckedConnection::Hello::kNewPipe
             : CheckedConnection::Hello::kForPipe;
}

// Decodes `frame` into `object`, and notes what it tells. Returns "", or what
// the peer did wrong.
std::string Receive(const CheckedCommon& common, ConnectionClock& clock,
                    std::string_view frame, bool is_caller,
                    AbstractNopHolder& object) {
  std::string wrong =
      ReadObject(frame, {common.transport, is_caller}, *common.check, object);
  if (!wrong.empty()) return wrong;
  if (auto* const hello = dynamic_cast<NopHolder<Packet>*>(&object)) {
    common.check->Claim(common.transport, hello->getObject());
    common.check->arrivals()->NumberCaller(hello->getObject());
  } else if (auto* const lane = dynamic_cast<NopHolder<MptPacket>*>(&object)) {
    clock.NoteHello(lane->getObject());
  } else if (auto* const answer =
                 dynamic_cast<NopHolder<BrochureAnswer>*>(&object)) {
    clock.NoteAnswer(answer->getObject(), is_caller);
  }
  return "";
}

void LogProtocolError(const CheckedCommon& common, const std::string& wrong) {
  LOG_EVERY_N(WARNING, 100) << "a connection over " << common.transport
                            << " is closed: the peer " << wrong;
}

// A connection of a transport that knows about its peers.
class CheckedLiveConnection final : public CheckedConnection,
                                    public PeerLiveness {
 public:
  CheckedLiveConnection(std::shared_ptr<const CheckedCommon> common,
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

}  // namespace

CheckedConnection::CheckedConnection(
    std::shared_ptr<const CheckedCommon> common,
    std::shared_ptr<Connection> inner, bool is_caller, std::string address)
    : common_(std::move(common)),
      inner_(std::move(inner)),
      is_caller_(is_caller),
      clock_(std::make_shared<ConnectionClock>(common_->check->arrivals(),
                                               inner_, std::move(address))) {}

std::shared_ptr<CheckedConnection> CheckedConnection::Make(
    std::shared_ptr<const CheckedCommon> common,
    std::shared_ptr<Connection> inner, bool is_caller, std::string address) {
  if (auto* const liveness = dynamic_cast<PeerLiveness*>(inner.get())) {
    return std::make_shared<CheckedLiveConnection>(
        std::move(common), inner, *liveness, is_caller, std::move(address));
  }
  return std::make_shared<CheckedConnection>(
      std::move(common), std::move(inner), is_caller, std::move(address));
}

void CheckedConnection::ReadHello(std::function<void(Hello)> done) {
  read([self = weak_from_this(), done = std::move(done)](
           const Error& error, const void* frame, size_t size) {
    const std::shared_ptr<CheckedConnection> alive = self.lock();
    if (error || alive == nullptr) return done(Hello::kNone);
    std::string hello(static_cast<const char*>(frame), size);
    const Hello kind = KindOf(*alive->common_, hello);
    if (kind == Hello::kNone) {
      LogProtocolError(*alive->common_, "said no hello");
    } else {
      alive->hello_ = std::move(hello);
    }
    done(kind);
  });
}

void CheckedConnection::read(read_callback_fn done) {
  inner_->read(Counted(std::move(done)));
}

void CheckedConnection::read(void* into, size_t length, read_callback_fn done) {
  inner_->read(into, length, Counted(std::move(done)));
}

void CheckedConnection::read(AbstractNopHolder& object,
                             read_nop_callback_fn done) {
  auto finish = [common = common_, clock = clock_,
                 inner = std::weak_ptr<Connection>(inner_),
                 is_caller = is_caller_, &object, done = std::move(done)](
                    const Error& error, const void* frame, size_t size) {
    if (error) {
      done(error);
      return;
    }
    const std::string wrong =
        Receive(*common, *clock, {static_cast<const char*>(frame), size},
                is_caller, object);
    if (wrong.empty()) {
      done(Error::kSuccess);
      return;
    }
    LogProtocolError(*common, wrong);
    done(Error(std::make_shared<ProtocolError>(wrong), __FILE__, __LINE__));
    if (const auto connection = inner.lock()) connection->close();
  };
  if (hello_.has_value()) {
    const std::string hello = *std::move(hello_);
    hello_.reset();
    finish(Error::kSuccess, hello.data(), hello.size());
  } else {
    inner_->read(Counted(std::move(finish)));
  }
}

void CheckedConnection::write(const void* bytes, size_t length,
                              write_callback_fn done) {
  inner_->write(bytes, length, std::move(done));
}

void CheckedConnection::write(const AbstractNopHolder& object,
                              write_callback_fn done) {
  if (const auto* const answer =
          dynamic_cast<const NopHolder<BrochureAnswer>*>(&object)) {
    common_->check->HandOut(answer->getObject());
    clock_->NoteAnswer(answer->getObject(), is_caller_);
  } else if (const auto* const hello =
                 dynamic_cast<const NopHolder<MptPacket>*>(&object)) {
    clock_->NoteHello(hello->getObject());
  }
  inner_->write(object, std::move(done));
}

void CheckedConnection::setId(std::string id) {
  clock_->SetId(id);
  inner_->setId(std::move(id));
}

CheckedConnection::read_callback_fn CheckedConnection::Counted(
    read_callback_fn done) {
  if (!clock_->counts_frames()) return done;
  return [clock = clock_, done = std::move(done)](
             const Error& error, const void* frame, size_t size) {
    if (!error) clock->NoteFrame();
    done(error, frame, size);
  };
}

}  // namespace reprise

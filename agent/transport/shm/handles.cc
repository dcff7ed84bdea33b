#include "agent/transport/shm/handles.h"

#include <array>  // nop needs it
#include <optional>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "agent/transport/arrivals.h"
#include "agent/transport/peer_liveness.h"
#include "agent/transport/uv/error.h"
#include "agent/transport/whole_object.h"
#include "tensorpipe/common/nop.h"
#include "uv.h"

namespace reprise::shm {
namespace {

using tensorpipe::AbstractNopHolder;
using tensorpipe::Error;

class ConnectionHandle final : public tensorpipe::transport::Connection,
                               public PeerLiveness,
                               public ArrivalClock {
 public:
  ConnectionHandle(std::shared_ptr<ContextCore> context,
                   std::shared_ptr<shm::Connection> connection)
      : context_(std::move(context)), connection_(std::move(connection)) {}
  ~ConnectionHandle() override { close(); }

  void read(read_callback_fn done) override {
    Defer([connection = connection_, done = std::move(done)]() mutable {
      connection->Read(std::move(done));
    });
  }
  void read(void* into, size_t length, read_callback_fn done) override {
    Defer([connection = connection_, into, length,
           done = std::move(done)]() mutable {
      connection->Read(into, length, std::move(done));
    });
  }
  // An agent reads objects with `MakeChecked`, which also judges them.
  void read(AbstractNopHolder& object, read_nop_callback_fn done) override {
    read([connection = std::weak_ptr<shm::Connection>(connection_), &object,
          done = std::move(done)](const Error& error, const void* frame,
                                  size_t size) {
      if (error) return done(error);
      if (ReadWholeObject({static_cast<const char*>(frame), size}, object)) {
        return done(Error::kSuccess);
      }
      done(UvErrorOf(UV_EPROTO));
      if (const auto reading = connection.lock()) reading->CloseSoon();
    });
  }
  void write(const void* bytes, size_t length,
             write_callback_fn done) override {
    Write({bytes, length, std::move(done), nullptr});
  }
  void write(const AbstractNopHolder& object, write_callback_fn done) override {
    auto bytes = std::make_shared<std::string>(object.getSize(), '\0');
    tensorpipe::NopWriter writer(reinterpret_cast<uint8_t*>(bytes->data()),
                                 bytes->size());
    // The write cannot fail, as it has the room that it asked for.
    static_cast<void>(object.write(writer));
    Write({bytes->data(), bytes->size(), std::move(done), bytes});
  }
  void setId(std::string id) override {
    Defer([connection = connection_, id = std::move(id)]() mutable {
      connection->SetId(std::move(id));
    });
  }
  void close() override {
    Defer([connection = connection_] { connection->Close(); });
  }

  bool PeerIsOpen() override { return connection_->IsPeerOpen(); }
  std::optional<pid_t> PeerPid() override { return connection_->PeerPid(); }
  absl::Duration SinceArrival() override { return connection_->SinceToken(); }

 private:
  void Write(shm::Connection::Write write) {
    Defer([connection = connection_, write = std::move(write)]() mutable {
      connection->Add(std::move(write));
    });
  }
  void Defer(std::function<void()> task) {
    context_->loop().deferToLoop(std::move(task));
  }

  const std::shared_ptr<ContextCore> context_;
  const std::shared_ptr<shm::Connection> connection_;
};

class ListenerHandle final : public tensorpipe::transport::Listener {
 public:
  ListenerHandle(std::shared_ptr<ContextCore> context,
                 std::shared_ptr<shm::Listener> listener)
      : context_(std::move(context)), listener_(std::move(listener)) {}
  ~ListenerHandle() override { close(); }

  void accept(accept_callback_fn done) override {
    Defer([listener = listener_, done = std::move(done)]() mutable {
      listener->Accept(std::move(done));
    });
  }
  std::string addr() const override {
    std::string address;
    context_->loop().runInLoop([&] { address = listener_->address(); });
    return address;
  }
  void setId(std::string id) override {
    Defer([listener = listener_, id = std::move(id)]() mutable {
      listener->SetId(std::move(id));
    });
  }
  void close() override {
    Defer([listener = listener_] { listener->Close(); });
  }

 private:
  void Defer(std::function<void()> task) {
    context_->loop().deferToLoop(std::move(task));
  }

  const std::shared_ptr<ContextCore> context_;
  const std::shared_ptr<shm::Listener> listener_;
};

}  // namespace

std::shared_ptr<tensorpipe::transport::Connection> MakeHandle(
    std::shared_ptr<ContextCore> context,
    std::shared_ptr<Connection> connection) {
  return std::make_shared<ConnectionHandle>(std::move(context),
                                            std::move(connection));
}

std::shared_ptr<tensorpipe::transport::Listener> MakeHandle(
    std::shared_ptr<ContextCore> context, std::shared_ptr<Listener> listener) {
  return std::make_shared<ListenerHandle>(std::move(context),
                                          std::move(listener));
}

}  // namespace reprise::shm

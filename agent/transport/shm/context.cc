#include "agent/transport/shm/context.h"

#include <atomic>
#include <future>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/transport/shm/connection.h"
#include "agent/transport/shm/context_core.h"
#include "agent/transport/shm/handles.h"
#include "agent/transport/shm/listener.h"
#include "agent/transport/shm/ring.h"
#include "tensorpipe/common/system.h"
#include "uv.h"

namespace reprise {
namespace {

// The descriptor is the same for all processes that can reach each other's
// sockets and memory, and for no others. It is empty when the kernel does not
// name the boot and the network.
std::string DomainDescriptor() {
  const auto boot_id = tensorpipe::getBootID();
  const auto network =
      tensorpipe::getLinuxNamespaceId(tensorpipe::LinuxNamespace::kNet);
  if (!boot_id.has_value() || !network.has_value()) return "";
  return absl::StrCat("shm:", boot_id.value(), "_", network.value());
}

class ShmContext final : public tensorpipe::transport::Context {
 public:
  ~ShmContext() override { join(); }

  std::shared_ptr<tensorpipe::transport::Connection> connect(
      std::string address) override {
    auto connection = std::make_shared<shm::Connection>(core_);
    core_->loop().deferToLoop([connection, address = std::move(address)] {
      connection->Connect(address);
    });
    return MakeHandle(core_, std::move(connection));
  }
  std::shared_ptr<tensorpipe::transport::Listener> listen(
      std::string address) override {
    auto listener = std::make_shared<shm::Listener>(core_);
    core_->loop().deferToLoop([listener, address = std::move(address)] {
      listener->Listen(address);
    });
    return MakeHandle(core_, std::move(listener));
  }
  bool isViable() const override { return is_viable_; }
  const std::string& domainDescriptor() const override { return domain_; }
  void setId(std::string) override {}
  void close() override {
    core_->loop().deferToLoop([core = core_] { core->Close(); });
  }
  void join() override {
    close();
    if (has_joined_.exchange(true)) return;
    // The context must have closed before the loop may end.
    std::promise<void> closed;
    core_->loop().deferToLoop([&closed] { closed.set_value(); });
    closed.get_future().wait();
    core_->loop().Join();
  }

 private:
  const std::string domain_ = DomainDescriptor();
  const bool is_viable_ = WhyShmIsNotViable().empty();
  const std::shared_ptr<shm::ContextCore> core_ =
      std::make_shared<shm::ContextCore>();
  std::atomic<bool> has_joined_ = false;
};

}  // namespace

std::shared_ptr<tensorpipe::transport::Context> MakeShmContext() {
  return std::make_shared<ShmContext>();
}

std::string WhyShmIsNotViable() {
  if (DomainDescriptor().empty()) {
    return "cannot read /proc/self/ns/net or /proc/sys/kernel/random/boot_id";
  }
  shm::Ring ring;
  shm::Ring::Files files;
  const int error = ring.Make(shm::kMinRingBytes, files);
  if (error == 0) return "";
  return absl::StrCat("cannot make sealed shared memory (memfd_create): ",
                      uv_strerror(error));
}

}  // namespace reprise

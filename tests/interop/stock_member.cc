// The program of a member with PyTorch's agent; with `--serve`, PyTorch's own
// TCPStore server, which prints its port and serves until its standard input
// ends.

#include <ATen/core/ivalue.h>
#include <torch/csrc/distributed/rpc/request_callback.h>
#include <torch/csrc/distributed/rpc/tensorpipe_agent.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <utility>

#include "tests/interop/conversation.h"
#include "tests/interop/stock_tensors.h"

namespace reprise::interop {
namespace {

namespace rpc = torch::distributed::rpc;
using JitFuture = c10::intrusive_ptr<rpc::JitFuture>;

constexpr std::chrono::seconds kLong(120);

c10::intrusive_ptr<c10d::Store> OpenStore(const std::string& where,
                                          int members) {
  const std::string rest = where.substr(where.find(':') + 1);
  c10::intrusive_ptr<c10d::Store> store;
  if (where.rfind("file:", 0) == 0) {
    store = c10::make_intrusive<c10d::FileStore>(rest, members);
  } else {
    c10d::TCPStoreOptions options;
    options.port = static_cast<uint16_t>(std::stoi(rest));
    options.waitWorkers = false;
    store = c10::make_intrusive<c10d::TCPStore>("127.0.0.1", options);
  }
  store->setTimeout(kLong);
  return store;
}

c10::intrusive_ptr<rpc::Message> MakeMessage(const std::string& payload,
                                             const MessageSpec& tensors,
                                             rpc::MessageType type) {
  return c10::make_intrusive<rpc::Message>(
      std::vector<char>(payload.begin(), payload.end()),
      MakeStockTensors(tensors), type);
}

Arrival ToArrival(const rpc::Message& message) {
  Arrival arrival;
  arrival.payload.assign(message.payload().begin(), message.payload().end());
  arrival.tensors = ViewStockTensors(message.tensors());
  arrival.keeps_tensors =
      std::make_shared<std::vector<at::Tensor>>(message.tensors());
  return arrival;
}

class Callback : public rpc::RequestCallback {
 public:
  explicit Callback(Service service) : service_(std::move(service)) {}

 protected:
  JitFuture processMessage(rpc::Message& request,
                           std::vector<c10::Stream>) const override {
    auto future = c10::make_intrusive<rpc::JitFuture>(at::AnyClassType::get());
    service_(ToArrival(request), [future](Answer answer) {
      if (!answer.error.empty()) {
        future->setError(
            std::make_exception_ptr(std::runtime_error(answer.error)));
        return;
      }
      auto reply = MakeMessage(answer.payload, answer.tensors,
                               rpc::MessageType::SCRIPT_RET);
      auto storages = reply->getStorages();
      future->markCompleted(std::move(reply), std::move(storages));
    });
    return future;
  }

 private:
  const Service service_;
};

class StockMember : public Member {
 public:
  StockMember(const MemberOptions& options, Service service) {
    rpc::TensorPipeRpcBackendOptions backend(
        /*numWorkerThreads=*/4, std::vector<std::string>{options.transport},
        std::vector<std::string>{options.channel},
        /*rpc_timeout=*/static_cast<float>(kLong.count()),
        /*init_method=*/"unused");
    const int members = static_cast<int>(options.names.size());
    agent_ = std::make_shared<rpc::TensorPipeAgent>(
        OpenStore(options.store, members), options.names[options.id],
        static_cast<rpc::worker_id_t>(options.id), members, backend,
        std::unordered_map<std::string, rpc::DeviceMap>(),
        std::vector<c10::Device>(),
        std::make_unique<Callback>(std::move(service)));
    agent_->start();
  }

  void Call(const std::string& peer, const std::string& payload,
            const MessageSpec& tensors, double timeout,
            std::function<void(Arrival)> done) override {
    const JitFuture future = agent_->send(
        agent_->getWorkerInfo(peer),
        MakeMessage(payload, tensors, rpc::MessageType::SCRIPT_CALL),
        static_cast<float>(timeout));
    future->addCallback([done = std::move(done)](rpc::JitFuture& ended) {
      if (!ended.hasError()) {
        return done(ToArrival(*ended.value().toCustomClass<rpc::Message>()));
      }
      Arrival arrival;
      const std::string text = ended.tryRetrieveErrorMessage();
      arrival.error = text.substr(0, text.find('\n'));
      arrival.timed_out = text.find("RPCErr:1:") != std::string::npos;
      done(std::move(arrival));
    });
  }

  std::string Leave() override {
    try {
      agent_->join(/*shutdown=*/true, static_cast<float>(kLong.count()));
      agent_->shutdown();
    } catch (const std::exception& error) {
      return error.what();
    }
    return "";
  }

 private:
  std::shared_ptr<rpc::TensorPipeAgent> agent_;
};

int ServeStore() {
  c10d::TCPStoreOptions options;
  options.port = 0;
  options.isServer = true;
  options.waitWorkers = false;
  const c10d::TCPStore store("127.0.0.1", options);
  std::printf("%d\n", static_cast<int>(store.getPort()));
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
  return 0;
}

}  // namespace
}  // namespace reprise::interop

int main(int argc, char** argv) {
  using reprise::interop::MemberOptions;
  using reprise::interop::StockMember;
  if (argc == 2 && argv[1] == std::string("--serve")) {
    return reprise::interop::ServeStore();
  }
  return reprise::interop::MemberMain(
      argc, argv,
      [](const MemberOptions& options, reprise::interop::Service service) {
        return std::make_unique<StockMember>(options, std::move(service));
      });
}

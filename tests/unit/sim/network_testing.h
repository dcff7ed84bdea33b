// Two nodes that exchange messages by TensorPipe over a simulated network.

#ifndef REPRISE_TESTS_UNIT_SIM_NETWORK_TESTING_H_
#define REPRISE_TESTS_UNIT_SIM_NETWORK_TESTING_H_

#include <cstdint>
#include <cstring>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "sim/network/network.h"
#include "tensorpipe/tensorpipe.h"
#include "tests/unit/sim/sim_testing.h"

namespace reprise {

class NetworkWorld {
 public:
  explicit NetworkWorld(const WorldOptions& options = With(Policy::kRandom),
                        const NetworkOptions& network = {})
      : network_(std::make_unique<Network>(*world_of(options), network)) {
    network_->OnInjected(
        [this](FaultKind kind, int, int) { ++injections_[kind]; });
    (*world_)->OnCrash([this](Node&) { clean_ = false; });
  }
  ~NetworkWorld() {
    if (clean_) return;
    // The abandoned fibers refer to the network.
    [[maybe_unused]] Network* const kept = network_.release();
  }

  TestWorld& world() { return *world_; }
  Network& network() { return *network_; }
  int injections(FaultKind kind) { return injections_[kind]; }

  Outcome Run() {
    const Outcome outcome = world_->Run();
    if (outcome != Outcome::kFinished) clean_ = false;
    return outcome;
  }

  // A context with the node's only transport and channel.
  std::shared_ptr<tensorpipe::Context> MakeContext(int32_t rank) {
    auto context = std::make_shared<tensorpipe::Context>(
        tensorpipe::ContextOptions().name(absl::StrCat("w", rank)));
    TransportSet set =
        network_->MakeTransports(world_->node(rank), TransportOptions());
    for (TransportEntry& entry : set.transports) {
      context->registerTransport(entry.priority, entry.name, entry.context);
    }
    for (ChannelEntry& entry : set.channels) {
      context->registerChannel(entry.priority, entry.name, entry.context);
    }
    return context;
  }

 private:
  World* world_of(const WorldOptions& options) {
    world_ = std::make_unique<TestWorld>(options);
    return &**world_;
  }

  std::unique_ptr<TestWorld> world_;
  std::unique_ptr<Network> network_;
  std::map<FaultKind, int> injections_;
  bool clean_ = true;
};

// The following functions block the fiber that calls them.

inline std::pair<tensorpipe::Error, std::shared_ptr<tensorpipe::Pipe>> Accept(
    tensorpipe::Listener& listener) {
  using Result =
      std::pair<tensorpipe::Error, std::shared_ptr<tensorpipe::Pipe>>;
  auto accepted = std::make_shared<std::promise<Result>>();
  listener.accept([accepted](const tensorpipe::Error& error,
                             std::shared_ptr<tensorpipe::Pipe> pipe) {
    accepted->set_value({error, std::move(pipe)});
  });
  return accepted->get_future().get();
}

// A message with a payload and a tensor. If a callback is called twice the
// program ends, and if it is never called the world is in a deadlock.
struct Parcel {
  std::string payload;
  std::string tensor;

  friend bool operator==(const Parcel&, const Parcel&) = default;
};

inline tensorpipe::Error Write(tensorpipe::Pipe& pipe, Parcel& parcel) {
  tensorpipe::Message message;
  message.metadata = "parcel";
  message.payloads.push_back(
      {parcel.payload.data(), parcel.payload.size(), ""});
  tensorpipe::Message::Tensor& tensor = message.tensors.emplace_back();
  tensor.buffer = tensorpipe::CpuBuffer{parcel.tensor.data()};
  tensor.length = parcel.tensor.size();
  tensor.targetDevice = tensorpipe::Device("cpu", 0);
  auto written = std::make_shared<std::promise<tensorpipe::Error>>();
  pipe.write(std::move(message), [written](const tensorpipe::Error& error) {
    written->set_value(error);
  });
  return written->get_future().get();
}

inline tensorpipe::Error Read(tensorpipe::Pipe& pipe, Parcel& parcel) {
  using Described = std::pair<tensorpipe::Error, tensorpipe::Descriptor>;
  auto described = std::make_shared<std::promise<Described>>();
  pipe.readDescriptor([described](const tensorpipe::Error& error,
                                  tensorpipe::Descriptor descriptor) {
    described->set_value({error, std::move(descriptor)});
  });
  auto [error, descriptor] = described->get_future().get();
  if (error) return error;
  EXPECT_EQ(descriptor.metadata, "parcel");
  EXPECT_EQ(descriptor.payloads.size(), 1u);
  EXPECT_EQ(descriptor.tensors.size(), 1u);
  parcel.payload.resize(descriptor.payloads[0].length);
  parcel.tensor.resize(descriptor.tensors[0].length);
  tensorpipe::Allocation allocation;
  allocation.payloads.push_back({parcel.payload.data()});
  allocation.tensors.push_back({tensorpipe::CpuBuffer{parcel.tensor.data()}});
  auto read = std::make_shared<std::promise<tensorpipe::Error>>();
  pipe.read(std::move(allocation),
            [read](const tensorpipe::Error& error) { read->set_value(error); });
  return read->get_future().get();
}

// w0 sends a parcel to w1, which sends it back. At `close_at_ns` both close
// everything that they have, so that both end whatever happened.
class Exchange {
 public:
  Exchange(NetworkWorld& world, Parcel parcel,
           int64_t close_at_ns = 10 * kSecond)
      : world_(world), parcel_(std::move(parcel)) {
    TestWorld& fibers = world_.world();
    fibers.Start(1, "server", [this] { Serve(); });
    fibers.Start(0, "client", [this] { Call(); });
    for (int32_t rank : {0, 1}) {
      fibers.Start(rank, "closer", [this, rank, close_at_ns] {
        Runtime& runtime = world_.world().runtime(rank);
        runtime.SleepUntil(runtime.Now() + absl::Nanoseconds(close_at_ns));
        Side& side = sides_[rank];
        if (side.listener != nullptr) side.listener->close();
        if (side.pipe != nullptr) side.pipe->close();
      });
    }
  }

  const std::string& client_error() const { return sides_[0].error; }
  const std::string& server_error() const { return sides_[1].error; }
  // When the client had its reply, or an error instead.
  int64_t client_knew_ns() const { return client_knew_ns_; }
  bool came_back() const { return came_back_; }
  bool ended() const { return sides_[0].ended && sides_[1].ended; }

 private:
  struct Side {
    std::shared_ptr<tensorpipe::Context> context;
    std::shared_ptr<tensorpipe::Listener> listener;
    std::shared_ptr<tensorpipe::Pipe> pipe;
    std::string error;  // the first
    bool ended = false;
  };

  // Keeps the first error. Returns true if there is none.
  static bool Note(Side& side, const tensorpipe::Error& error) {
    if (error && side.error.empty()) side.error = error.what();
    return !error;
  }

  void Serve() {
    Side& side = sides_[1];
    side.context = world_.MakeContext(1);
    side.listener = side.context->listen({"sim://"});
    url_.set_value(side.listener->url("sim"));
    auto [error, pipe] = Accept(*side.listener);
    if (Note(side, error)) {
      side.pipe = pipe;
      Parcel parcel;
      if (Note(side, Read(*pipe, parcel)) && Note(side, Write(*pipe, parcel))) {
        // The client closes first.
        Parcel none;
        EXPECT_TRUE(static_cast<bool>(Read(*pipe, none)));
      }
      pipe->close();
    }
    side.listener->close();
    End(side);
  }

  void Call() {
    Side& side = sides_[0];
    const std::string url = url_.get_future().get();
    side.context = world_.MakeContext(0);
    side.pipe = side.context->connect(url);
    Parcel parcel = parcel_;
    // The read is there before the write is done, as in an agent.
    const auto writer = world_.world().runtime(0).StartThread(
        "writer", [&] { Note(side, Write(*side.pipe, parcel)); });
    Parcel reply;
    if (Note(side, Read(*side.pipe, reply))) {
      EXPECT_TRUE(reply == parcel_);
      came_back_ = true;
    }
    client_knew_ns_ = world_.world().now_ns();
    writer->Join();
    side.pipe->close();
    End(side);
  }

  static void End(Side& side) {
    side.context->join();
    side.listener = nullptr;
    side.pipe = nullptr;
    side.context = nullptr;
    side.ended = true;
  }

  NetworkWorld& world_;
  const Parcel parcel_;
  std::promise<std::string> url_;
  Side sides_[2];
  int64_t client_knew_ns_ = -1;
  bool came_back_ = false;
};

}  // namespace reprise

#endif  // REPRISE_TESTS_UNIT_SIM_NETWORK_TESTING_H_

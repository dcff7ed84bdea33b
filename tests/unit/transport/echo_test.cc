// A message with a tensor there and back over TensorPipe's own core, for each
// pair of a transport and a channel that works on this machine; and between our
// own transports and TensorPipe's.

#include <cstdint>
#include <cstring>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/transport/arrivals.h"
#include "agent/transport/peer_check.h"
#include "agent/transport/transports.h"
#include "gtest/gtest.h"
#include "tensorpipe/tensorpipe.h"

namespace reprise {
namespace {

constexpr size_t kTensorBytes = size_t{1} << 20;

// A context with one transport and one channel.
class Node {
 public:
  explicit Node(TransportSet set)
      : address_(absl::StrCat(set.transports[0].name, "://",
                              set.transports[0].address)),
        transport_(set.transports[0].name),
        arrivals_(set.arrivals),
        context_(std::make_shared<tensorpipe::Context>()) {
    for (TransportEntry& entry : set.transports) {
      context_->registerTransport(entry.priority, entry.name, entry.context);
    }
    for (ChannelEntry& entry : set.channels) {
      context_->registerChannel(entry.priority, entry.name, entry.context);
    }
  }
  ~Node() { context_->join(); }

  // Returns where it listens.
  std::string Listen() {
    listener_ = context_->listen({address_});
    return listener_->url(transport_);
  }
  std::shared_ptr<tensorpipe::Pipe> Accept() {
    std::promise<std::shared_ptr<tensorpipe::Pipe>> accepted;
    listener_->accept([&](const tensorpipe::Error& error,
                          std::shared_ptr<tensorpipe::Pipe> pipe) {
      EXPECT_FALSE(error) << error.what();
      accepted.set_value(std::move(pipe));
    });
    return accepted.get_future().get();
  }
  std::shared_ptr<tensorpipe::Pipe> Connect(const std::string& url) {
    return context_->connect(url);
  }
  // Under a name with a number, by which its arrivals are found.
  std::shared_ptr<tensorpipe::Pipe> Connect(const std::string& url,
                                            uint64_t number) {
    return context_->connect(url, tensorpipe::PipeOptions().remoteName(
                                      PipeArrivals::NameOf("server", number)));
  }
  PipeArrivals* arrivals() const { return arrivals_.get(); }

 private:
  const std::string address_;
  const std::string transport_;
  const std::shared_ptr<PipeArrivals> arrivals_;
  const std::shared_ptr<tensorpipe::Context> context_;
  std::shared_ptr<tensorpipe::Listener> listener_;
};

// Begins to write; the future is true when it went well.
std::future<bool> Write(tensorpipe::Pipe& pipe, std::vector<char>& tensor) {
  tensorpipe::Message message;
  message.metadata = "echo";
  tensorpipe::Message::Tensor& entry = message.tensors.emplace_back();
  entry.buffer = tensorpipe::CpuBuffer{tensor.data()};
  entry.length = tensor.size();
  auto written = std::make_shared<std::promise<bool>>();
  pipe.write(std::move(message), [written](const tensorpipe::Error& error) {
    EXPECT_FALSE(error) << error.what();
    written->set_value(!error);
  });
  return written->get_future();
}

// Empty if it failed.
std::vector<char> Read(tensorpipe::Pipe& pipe) {
  std::promise<size_t> length;
  pipe.readDescriptor(
      [&](const tensorpipe::Error& error, tensorpipe::Descriptor descriptor) {
        EXPECT_FALSE(error) << error.what();
        EXPECT_EQ(descriptor.metadata, error ? "" : "echo");
        length.set_value(
            descriptor.tensors.size() == 1 ? descriptor.tensors[0].length : 0);
      });
  std::vector<char> tensor(length.get_future().get());
  if (tensor.empty()) return {};
  tensorpipe::Allocation allocation;
  allocation.tensors.push_back({tensorpipe::CpuBuffer{tensor.data()}});
  std::promise<bool> read;
  pipe.read(std::move(allocation), [&](const tensorpipe::Error& error) {
    EXPECT_FALSE(error) << error.what();
    read.set_value(!error);
  });
  if (!read.get_future().get()) return {};
  return tensor;
}

void ExpectEchoes(Node& server, Node& client) {
  std::vector<char> request(kTensorBytes);
  for (size_t i = 0; i < request.size(); ++i) {
    request[i] = static_cast<char>(i * 2654435761u >> 24);
  }
  const std::shared_ptr<tensorpipe::Pipe> to_server =
      client.Connect(server.Listen());
  const std::shared_ptr<tensorpipe::Pipe> to_client = server.Accept();
  for (int round = 0; round < 3; ++round) {
    std::future<bool> requested = Write(*to_server, request);
    std::vector<char> received = Read(*to_client);
    ASSERT_EQ(received.size(), kTensorBytes);
    std::future<bool> responded = Write(*to_client, received);
    const std::vector<char> response = Read(*to_server);
    ASSERT_EQ(response.size(), kTensorBytes);
    EXPECT_EQ(std::memcmp(request.data(), response.data(), kTensorBytes), 0);
    EXPECT_TRUE(requested.get());
    EXPECT_TRUE(responded.get());
    request[0] ^= 1;  // a stale buffer would show
  }
}

using Pair = std::pair<std::string, std::string>;

class EchoTest : public testing::TestWithParam<Pair> {};

TEST_P(EchoTest, ATensorComesBack) {
  const auto& [transport, channel] = GetParam();
  for (const TransportProbe& probe : ProbeRealTransports("127.0.0.1")) {
    if ((probe.name == transport || probe.name == channel) && !probe.viable) {
      GTEST_SKIP() << probe.name << " does not work here: " << probe.detail;
    }
  }
  const TransportOptions options{{transport}, {channel}, "127.0.0.1"};
  auto server_set = RealTransports().Make(options);
  ASSERT_TRUE(server_set.ok()) << server_set.status();
  auto client_set = RealTransports().Make(options);
  ASSERT_TRUE(client_set.ok()) << client_set.status();
  Node server(*std::move(server_set));
  Node client(*std::move(client_set));
  ExpectEchoes(server, client);
}

// The connections of the pipe and of the channel, at both ends.
TEST_P(EchoTest, AllConnectionsOfThePipeAreKnown) {
  const auto& [transport, channel] = GetParam();
  for (const TransportProbe& probe : ProbeRealTransports("127.0.0.1")) {
    if ((probe.name == transport || probe.name == channel) && !probe.viable) {
      GTEST_SKIP() << probe.name << " does not work here: " << probe.detail;
    }
  }
  const TransportOptions options{{transport}, {channel}, "127.0.0.1"};
  Node server(*RealTransports().Make(options));
  Node client(*RealTransports().Make(options));
  const uint64_t number = client.arrivals()->NewPipe();
  EXPECT_EQ(client.arrivals()->SinceArrival(number), absl::InfiniteDuration());
  const std::shared_ptr<tensorpipe::Pipe> to_server =
      client.Connect(server.Listen(), number);
  const std::shared_ptr<tensorpipe::Pipe> to_client = server.Accept();
  std::vector<char> tensor(kTensorBytes);
  std::future<bool> requested = Write(*to_server, tensor);
  EXPECT_EQ(Read(*to_client), tensor);
  std::future<bool> responded = Write(*to_client, tensor);
  EXPECT_EQ(Read(*to_server), tensor);
  EXPECT_TRUE(requested.get());
  EXPECT_TRUE(responded.get());

  const uint64_t accepted =
      PipeArrivals::Parse(to_client->getRemoteName()).second;
  const size_t expected = 2 + (channel == "basic" ? 1
                               : channel == "cma" ? 2
                                                  : 1 + kMptUvLanes);
  EXPECT_EQ(client.arrivals()->num_connections(number), expected);
  EXPECT_EQ(server.arrivals()->num_connections(accepted), expected);
  EXPECT_LT(client.arrivals()->SinceArrival(number), absl::InfiniteDuration());
  EXPECT_LT(server.arrivals()->SinceArrival(accepted),
            absl::InfiniteDuration());
}

INSTANTIATE_TEST_SUITE_P(
    All, EchoTest,
    testing::Values(Pair("uv", "basic"), Pair("uv", "cma"),
                    Pair("uv", "mpt_uv"), Pair("shm", "basic"),
                    Pair("shm", "cma"), Pair("shm", "mpt_uv"),
                    Pair("ibv", "basic")),
    [](const testing::TestParamInfo<Pair>& info) {
      return absl::StrCat(info.param.first, "_", info.param.second);
    });

std::shared_ptr<tensorpipe::channel::Context> StockMptUv() {
  std::vector<std::shared_ptr<tensorpipe::transport::Context>> lanes;
  std::vector<std::shared_ptr<tensorpipe::transport::Listener>> listeners;
  for (int i = 0; i < kMptUvLanes; ++i) {
    lanes.push_back(tensorpipe::transport::uv::create());
    listeners.push_back(lanes.back()->listen("127.0.0.1"));
  }
  return tensorpipe::channel::mpt::create(std::move(lanes),
                                          std::move(listeners));
}

// What TensorPipe has by itself, as in a worker of PyTorch's.
TransportSet Stock(const Pair& pair) {
  const auto& [transport, channel] = pair;
  TransportSet set;
  if (transport == "uv") {
    set.transports.push_back(
        {"uv", 0, tensorpipe::transport::uv::create(), "127.0.0.1"});
  } else {
    set.transports.push_back(
        {"shm", 0, tensorpipe::transport::shm::create(), ""});
  }
  if (channel == "basic") {
    set.channels.push_back({channel, 0, tensorpipe::channel::basic::create()});
  } else if (channel == "cma") {
    set.channels.push_back({channel, 0, tensorpipe::channel::cma::create()});
  } else {
    set.channels.push_back({channel, 0, StockMptUv()});
  }
  return set;
}

class StockEchoTest : public testing::TestWithParam<Pair> {
 protected:
  static absl::StatusOr<TransportSet> Ours() {
    const auto& [transport, channel] = GetParam();
    return RealTransports().Make({{transport}, {channel}, "127.0.0.1"});
  }
};

TEST_P(StockEchoTest, WeConnectToIt) {
  auto ours = Ours();
  if (!ours.ok()) GTEST_SKIP() << ours.status();
  Node server(Stock(GetParam()));
  Node client(*std::move(ours));
  ExpectEchoes(server, client);
}

TEST_P(StockEchoTest, ItConnectsToUs) {
  auto ours = Ours();
  if (!ours.ok()) GTEST_SKIP() << ours.status();
  Node server(*std::move(ours));
  Node client(Stock(GetParam()));
  ExpectEchoes(server, client);
}

INSTANTIATE_TEST_SUITE_P(
    All, StockEchoTest,
    testing::Values(Pair("uv", "basic"), Pair("uv", "mpt_uv"),
                    Pair("uv", "cma"), Pair("shm", "basic"), Pair("shm", "cma"),
                    Pair("shm", "mpt_uv")),
    [](const testing::TestParamInfo<Pair>& info) {
      return absl::StrCat(info.param.first, "_", info.param.second);
    });

}  // namespace
}  // namespace reprise

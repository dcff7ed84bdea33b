// What an agent's transports cost against TensorPipe's own, under the same core
// and the channel basic, in one process. Compare by ratios, in one run.
//
//   message  the four payloads that the wire format makes of a call of 64
//            bytes, there and back; as many at a time as the argument says
//   tensor   a tensor of so many bytes, there and back
//   frame    a frame of so many bytes there and back, without the core
//   idle     `cpu` is the share of a core that a context and a connection take
//            while nothing happens

#include <benchmark/benchmark.h>
#include <sys/resource.h>

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "agent/transport/transports.h"
#include "tensorpipe/common/nop.h"
#include "tensorpipe/core/nop_types.h"
#include "tensorpipe/tensorpipe.h"
#include "tensorpipe/transport/connection.h"
#include "tensorpipe/transport/listener.h"

namespace reprise {
namespace {

bool IsUv(const std::string& kind) { return kind.find("uv") != kind.npos; }

// "uv" and "shm": ours, "stock_uv" and "stock_shm": TensorPipe's. Null when it
// does not work here.
std::shared_ptr<tensorpipe::transport::Context> MakeTransport(
    const std::string& kind,
    std::shared_ptr<tensorpipe::channel::Context>& channel) {
  std::shared_ptr<tensorpipe::transport::Context> transport;
  channel = tensorpipe::channel::basic::create();
  if (kind == "stock_uv") {
    transport = tensorpipe::transport::uv::create();
  } else if (kind == "stock_shm") {
    transport = tensorpipe::transport::shm::create();
  } else {
    TransportOptions options;
    options.transports = {kind};
    options.channels = {"basic"};
    options.bind_address = "127.0.0.1";
    absl::StatusOr<TransportSet> set = RealTransports().Make(options);
    if (!set.ok()) return nullptr;
    transport = set->transports[0].context;
    channel = set->channels[0].context;
  }
  return transport->isViable() ? transport : nullptr;
}

std::shared_ptr<tensorpipe::Context> MakeContext(const std::string& kind,
                                                 std::string& address) {
  auto context = std::make_shared<tensorpipe::Context>();
  std::shared_ptr<tensorpipe::channel::Context> channel;
  auto transport = MakeTransport(kind, channel);
  if (transport == nullptr) return nullptr;
  const std::string name = IsUv(kind) ? "uv" : "shm";
  address = name + "://" + (IsUv(kind) ? "127.0.0.1" : "");
  context->registerTransport(0, name, std::move(transport));
  context->registerChannel(0, "basic", std::move(channel));
  return context;
}

// What one message carries, in bytes.
struct Shape {
  std::vector<size_t> payloads;
  std::vector<size_t> tensors;
};

// So many messages an iteration, so many of them at a time.
struct Load {
  int messages;
  int in_flight;
};

// One end of an echo. One buffer serves all messages, since it is never read.
class End {
 public:
  End(std::shared_ptr<tensorpipe::Pipe> pipe, const Shape& shape)
      : pipe_(std::move(pipe)), shape_(shape) {
    for (const size_t size : shape.payloads) buffers_.emplace_back(size, 'x');
    for (const size_t size : shape.tensors) buffers_.emplace_back(size, 'x');
  }
  ~End() { pipe_->close(); }

  void Write() {
    tensorpipe::Message message;
    auto buffer = buffers_.begin();
    for (size_t i = 0; i < shape_.payloads.size(); ++i, ++buffer) {
      message.payloads.push_back({buffer->data(), buffer->size(), ""});
    }
    for (size_t i = 0; i < shape_.tensors.size(); ++i, ++buffer) {
      message.tensors.push_back(
          {tensorpipe::CpuBuffer{buffer->data()}, buffer->size(),
           tensorpipe::Device{tensorpipe::kCpuDeviceType, 0}, ""});
    }
    pipe_->write(std::move(message), [](const tensorpipe::Error&) {});
  }
  // Reads for ever, and does `then` after each message.
  void Read(std::function<void()> then) {
    pipe_->readDescriptor([this, then = std::move(then)](
                              const tensorpipe::Error& error,
                              const tensorpipe::Descriptor&) {
      if (error) return;
      tensorpipe::Allocation allocation;
      auto buffer = buffers_.begin();
      for (size_t i = 0; i < shape_.payloads.size(); ++i, ++buffer) {
        allocation.payloads.push_back({buffer->data()});
      }
      for (size_t i = 0; i < shape_.tensors.size(); ++i, ++buffer) {
        allocation.tensors.push_back({tensorpipe::CpuBuffer{buffer->data()}});
      }
      pipe_->read(std::move(allocation),
                  [this, then](const tensorpipe::Error& failed) {
                    if (failed) return;
                    Read(then);
                    then();
                  });
    });
  }

 private:
  const std::shared_ptr<tensorpipe::Pipe> pipe_;
  const Shape shape_;
  std::vector<std::string> buffers_;
};

void Run(benchmark::State& state, const std::string& kind, const Shape& shape,
         const Load& load) {
  std::string address;
  const auto server_context = MakeContext(kind, address);
  const auto client_context = MakeContext(kind, address);
  if (server_context == nullptr || client_context == nullptr) {
    state.SkipWithError("it does not work on this machine");
    return;
  }
  const auto listener = server_context->listen({address});
  std::promise<std::shared_ptr<tensorpipe::Pipe>> accepted;
  listener->accept(
      [&](const tensorpipe::Error&, std::shared_ptr<tensorpipe::Pipe> pipe) {
        accepted.set_value(std::move(pipe));
      });
  {
    End client(client_context->connect(
                   listener->url(address.substr(0, address.find(':')))),
               shape);
    End server(accepted.get_future().get(), shape);
    server.Read([&] { server.Write(); });
    std::promise<void>* done = nullptr;
    int to_write = 0;
    int to_come = 0;
    client.Read([&] {
      if (to_write > 0) {
        --to_write;
        client.Write();
      }
      if (--to_come == 0) done->set_value();
    });
    for (auto _ : state) {
      std::promise<void> all_came;
      done = &all_came;
      to_come = load.messages;
      to_write = load.messages - load.in_flight;
      for (int i = 0; i < load.in_flight; ++i) client.Write();
      all_came.get_future().wait();
    }
  }
  server_context->join();
  client_context->join();
  state.SetItemsProcessed(state.iterations() * load.messages);
}

void BM_Message(benchmark::State& state, const std::string& kind) {
  Run(state, kind, {{4, 8, 64, 47}, {}},
      {.messages = 512, .in_flight = static_cast<int>(state.range(0))});
}

void BM_Tensor(benchmark::State& state, const std::string& kind) {
  const auto bytes = static_cast<size_t>(state.range(0));
  Run(state, kind, {{4, 8, 64, 47}, {bytes}}, {.messages = 8, .in_flight = 1});
  state.SetBytesProcessed(state.items_processed() * state.range(0) * 2);
}

// The ends of one connection without the core. What is written first is an
// object of uv's core, or a listener of ours would not accept it.
class Wire {
 public:
  explicit Wire(const std::string& kind) {
    std::shared_ptr<tensorpipe::channel::Context> unused;
    server_ = MakeTransport(kind, unused);
    client_ = MakeTransport(kind, unused);
    if (server_ == nullptr || client_ == nullptr) return;
    listener_ = server_->listen(IsUv(kind) ? "127.0.0.1" : "");
    std::promise<std::shared_ptr<tensorpipe::transport::Connection>> accepted;
    listener_->accept(
        [&](const tensorpipe::Error&,
            std::shared_ptr<tensorpipe::transport::Connection> connection) {
          accepted.set_value(std::move(connection));
        });
    near = client_->connect(listener_->addr());
    tensorpipe::NopHolder<tensorpipe::Packet> hello;
    hello.getObject() = tensorpipe::RequestedConnection{1};
    std::promise<void> written;
    near->write(hello, [&](const tensorpipe::Error&) { written.set_value(); });
    far = accepted.get_future().get();
    tensorpipe::NopHolder<tensorpipe::Packet> came;
    std::promise<void> read;
    far->read(came, [&](const tensorpipe::Error&) { read.set_value(); });
    written.get_future().wait();
    read.get_future().wait();
  }
  ~Wire() {
    near = nullptr;
    far = nullptr;
    if (server_ != nullptr) server_->join();
    if (client_ != nullptr) client_->join();
  }

  // Null when the transport does not work here.
  std::shared_ptr<tensorpipe::transport::Connection> near;
  std::shared_ptr<tensorpipe::transport::Connection> far;

 private:
  std::shared_ptr<tensorpipe::transport::Context> server_;
  std::shared_ptr<tensorpipe::transport::Context> client_;
  std::shared_ptr<tensorpipe::transport::Listener> listener_;
};

// Frames back and forth, each written in the callback of the one before.
void BM_Frame(benchmark::State& state, const std::string& kind) {
  constexpr int kRounds = 512;
  Wire wire(kind);
  if (wire.near == nullptr) return state.SkipWithError("it does not work here");
  const auto size = static_cast<size_t>(state.range(0));
  std::string near(size, 'x');
  std::string far(size, 'x');
  const auto write = [size](auto& connection, std::string& bytes) {
    connection->write(bytes.data(), size, [](const tensorpipe::Error&) {});
  };
  std::function<void()> serve = [&] {
    wire.far->read(far.data(), size,
                   [&](const tensorpipe::Error& error, const void*, size_t) {
                     if (error) return;
                     write(wire.far, far);
                     serve();
                   });
  };
  serve();
  int left = 0;
  std::promise<void>* done = nullptr;
  std::function<void()> call = [&] {
    write(wire.near, near);
    wire.near->read(near.data(), size,
                    [&](const tensorpipe::Error&, const void*, size_t) {
                      if (--left == 0) return done->set_value();
                      call();
                    });
  };
  for (auto _ : state) {
    std::promise<void> all_came;
    done = &all_came;
    left = kRounds;
    call();
    all_came.get_future().wait();
  }
  state.SetItemsProcessed(state.iterations() * kRounds);
}

double CpuSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) +
           1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Two contexts, so half of what the process takes.
void BM_Idle(benchmark::State& state, const std::string& kind) {
  constexpr double kSeconds = 2;
  const Wire wire(kind);
  if (wire.near == nullptr) return state.SkipWithError("it does not work here");
  double cpu = 0;
  for (auto _ : state) {
    const double before = CpuSeconds();
    std::this_thread::sleep_for(std::chrono::duration<double>(kSeconds));
    cpu += CpuSeconds() - before;
  }
  state.counters["cpu"] = benchmark::Counter(
      cpu / kSeconds / static_cast<double>(state.iterations()) / 2);
}

void Messages(benchmark::internal::Benchmark* benchmark) {
  benchmark->Arg(1)->Arg(64)->UseRealTime();
}
void Frames(benchmark::internal::Benchmark* benchmark) {
  benchmark->Arg(64)->Arg(1 << 16)->Arg(1 << 20)->UseRealTime();
}
void Tensors(benchmark::internal::Benchmark* benchmark) {
  benchmark->Arg(1 << 16)->Arg(1 << 20)->Arg(1 << 24)->UseRealTime();
}

BENCHMARK_CAPTURE(BM_Message, stock_uv, "stock_uv")->Apply(Messages);
BENCHMARK_CAPTURE(BM_Message, uv, "uv")->Apply(Messages);
BENCHMARK_CAPTURE(BM_Message, stock_shm, "stock_shm")->Apply(Messages);
BENCHMARK_CAPTURE(BM_Message, shm, "shm")->Apply(Messages);
BENCHMARK_CAPTURE(BM_Frame, stock_uv, "stock_uv")->Apply(Frames);
BENCHMARK_CAPTURE(BM_Frame, uv, "uv")->Apply(Frames);
BENCHMARK_CAPTURE(BM_Frame, stock_shm, "stock_shm")->Apply(Frames);
BENCHMARK_CAPTURE(BM_Frame, shm, "shm")->Apply(Frames);
BENCHMARK_CAPTURE(BM_Idle, uv, "uv")->Iterations(1)->UseRealTime();
BENCHMARK_CAPTURE(BM_Idle, stock_shm, "stock_shm")
    ->Iterations(1)
    ->UseRealTime();
BENCHMARK_CAPTURE(BM_Idle, shm, "shm")->Iterations(1)->UseRealTime();
BENCHMARK_CAPTURE(BM_Tensor, stock_uv, "stock_uv")->Apply(Tensors);
BENCHMARK_CAPTURE(BM_Tensor, uv, "uv")->Apply(Tensors);
BENCHMARK_CAPTURE(BM_Tensor, stock_shm, "stock_shm")->Apply(Tensors);
BENCHMARK_CAPTURE(BM_Tensor, shm, "shm")->Apply(Tensors);

}  // namespace
}  // namespace reprise

BENCHMARK_MAIN();

#include "tests/unit/transport/cuda/cuda_testing.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <future>
#include <utility>

#include "agent/runtime/runtime.h"
#include "agent/transport/cuda/basic.h"
#include "agent/transport/cuda/by_size.h"
#include "agent/transport/cuda/direct.h"
#include "agent/transport/cuda/host.h"
#include "agent/transport/cuda/ipc.h"
#include "agent/transport/cuda/ipc_outbox.h"
#include "agent/transport/cuda/xth.h"
#include "gtest/gtest.h"
#include "tensorpipe/channel/basic/factory.h"

namespace reprise {

using tensorpipe::Error;

namespace {

constexpr size_t kMostSmallBytes = size_t{64} << 10;

}  // namespace

std::string NameOf(Kind kind) {
  switch (kind) {
    case Kind::kXth:
      return "Xth";
    case Kind::kIpc:
      return "Ipc";
    case Kind::kBasic:
      return "Basic";
    case Kind::kDirect:
      return "Direct";
    case Kind::kDirectStaged:
      return "DirectStaged";
    case Kind::kBySize:
      return "BySize";
    case Kind::kHostShared:
      return "HostShared";
    case Kind::kHostStreamed:
      return "HostStreamed";
    case Kind::kHostRefused:
      return "HostRefused";
  }
  return "";
}

size_t ChunkOf(Kind kind) {
  switch (kind) {
    case Kind::kBasic:
      return size_t{1} << 20;
    case Kind::kBySize:
      return kMostSmallBytes;
    case Kind::kHostShared:
    case Kind::kHostStreamed:
    case Kind::kHostRefused:
      return kCudaHostSlots.chunk_bytes;
    default:
      return IpcOutbox::kSlotBytes;
  }
}

bool IsFreeForAll(Kind kind) {
  return kind != Kind::kXth && kind != Kind::kIpc;
}

std::shared_ptr<tensorpipe::channel::Context> MakeContext(
    Kind kind, const GpuChannelEnvironment& environment) {
  switch (kind) {
    case Kind::kXth:
      return MakeCudaXthContext(environment);
    case Kind::kIpc:
      return MakeCudaIpcContext(environment);
    case Kind::kBasic:
      return MakeCudaBasicContext(environment,
                                  tensorpipe::channel::basic::create());
    case Kind::kDirect:
    case Kind::kDirectStaged:
      return MakeCudaDirectContext(environment);
    case Kind::kBySize:
      return MakeBySizeContext(
          environment, kMostSmallBytes,
          MakeCudaHostContext(environment, tensorpipe::channel::basic::create(),
                              {kMostSmallBytes, 4}),
          MakeCudaDirectContext(environment));
    default:
      return MakeCudaHostContext(environment,
                                 tensorpipe::channel::basic::create());
  }
}

Ends::Ends(Kind kind, unsigned seed)
    : kind(kind),
      gpus(2, seed),
      far_driver(kind == Kind::kXth ? near_driver : other_driver),
      near(MakeContext(kind, EnvironmentOf(true))),
      far(MakeContext(kind, EnvironmentOf(false))) {
  EXPECT_TRUE(near->isViable());
  EXPECT_TRUE(far->isViable());
  if (kind == Kind::kHostRefused) far_driver.set_can_register(false);
}

Ends::~Ends() { Finish(); }

std::string Ends::Finish() {
  link.reset();
  if (near != nullptr) near->join();
  if (far != nullptr) far->join();
  near = nullptr;
  far = nullptr;
  owned_wires = nullptr;
  return near_driver.Held() + other_driver.Held();
}

GpuChannelEnvironment Ends::EnvironmentOf(bool is_near) {
  GpuChannelEnvironment environment;
  environment.driver = is_near ? &near_driver : &far_driver;
  environment.runtime = &RealRuntime();
  environment.shared_memory = &RealSharedMemory();
  environment.process.boot_id =
      kind == Kind::kHostStreamed && is_near ? "another" : "boot";
  environment.process.pid_namespace = "4_effffffc";
  environment.process.ipc_namespace = "4_effffffb";
  environment.process.pid = is_near || kind == Kind::kXth ? 1001 : 1002;
  return environment;
}

Tensor::Tensor(FakeDriver& driver, size_t num_bytes, Kind kind)
    : driver_(driver), num_bytes_(num_bytes) {
  if (num_bytes > 0) {
    memory_ = *driver.Allocate(0, num_bytes);
    if (kind == Kind::kDirectStaged) driver.ForbidExport(memory_);
  }
  stream_ = *driver.CreateStream(0);
}

Tensor::~Tensor() {
  driver_.Release(stream_);
  driver_.Synchronize(stream_).IgnoreError();
  if (memory_ != nullptr) driver_.Free(0, memory_);
  driver_.DestroyStream(stream_);
}

namespace {

// The same bytes with the number of the block in front.
class Blocks {
 public:
  static constexpr size_t kBytes = 4096;

  explicit Blocks(int pattern) {
    for (size_t i = 0; i < kBytes; ++i) {
      bytes_[i] = static_cast<char>(pattern * 7 + i + (i >> 8));
    }
  }
  const char* At(size_t position) {
    const auto number = static_cast<uint32_t>(position / kBytes);
    std::memcpy(bytes_ + 1, &number, sizeof(number));
    return bytes_;
  }

 private:
  char bytes_[kBytes];
};

}  // namespace

void Tensor::Fill(int pattern) {
  driver_.Do(stream_, [bytes = static_cast<char*>(memory_),
                       num_bytes = num_bytes_, pattern] {
    Blocks blocks(pattern);
    for (size_t i = 0; i < num_bytes; i += Blocks::kBytes) {
      std::memcpy(bytes + i, blocks.At(i),
                  std::min(Blocks::kBytes, num_bytes - i));
    }
  });
}

void Tensor::Spoil() { std::memset(memory_, 0x55, num_bytes_); }

bool Tensor::Has(int pattern) {
  driver_.Synchronize(stream_).IgnoreError();
  const char* const bytes = static_cast<const char*>(memory_);
  Blocks blocks(pattern);
  for (size_t i = 0; i < num_bytes_; i += Blocks::kBytes) {
    if (std::memcmp(bytes + i, blocks.At(i),
                    std::min(Blocks::kBytes, num_bytes_ - i)) != 0) {
      return false;
    }
  }
  return true;
}

Result SendTensor(tensorpipe::channel::Channel& channel, const Tensor& tensor,
                  std::function<void(const Error&)> and_then) {
  auto sent = std::make_shared<std::promise<Error>>();
  channel.send(tensor.buffer(), tensor.num_bytes(),
               [sent, and_then = std::move(and_then)](const Error& error) {
                 if (and_then != nullptr) and_then(error);
                 sent->set_value(error);
               });
  return sent->get_future();
}

Result ReceiveTensor(tensorpipe::channel::Channel& channel,
                     const Tensor& tensor) {
  auto received = std::make_shared<std::promise<Error>>();
  channel.recv(tensor.buffer(), tensor.num_bytes(),
               [received](const Error& error) { received->set_value(error); });
  return received->get_future();
}

}  // namespace reprise

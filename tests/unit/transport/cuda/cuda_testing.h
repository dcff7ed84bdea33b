// Channels for GPUs between two processes that are one, over fake GPUs and
// connections of our transport uv.

#ifndef REPRISE_TESTS_UNIT_TRANSPORT_CUDA_CUDA_TESTING_H_
#define REPRISE_TESTS_UNIT_TRANSPORT_CUDA_CUDA_TESTING_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/device/gpu_buffer.h"
#include "agent/transport/cuda/environment.h"
#include "tensorpipe/channel/channel.h"
#include "tensorpipe/channel/context.h"
#include "tests/unit/transport/cma_testing.h"
#include "tests/unit/transport/cuda/fake_gpus.h"

namespace reprise {

enum class Kind {
  kXth,
  kIpc,
  kBasic,
  kDirect,
  kDirectStaged,  // memory that cannot be exported
  kBySize,        // cuda_direct as it is registered
  kHostShared,
  kHostStreamed,  // as between hosts
  kHostRefused,   // the receiver cannot register
};
std::string NameOf(Kind kind);
inline constexpr Kind kAllKinds[] = {
    Kind::kXth,        Kind::kIpc,          Kind::kBasic,
    Kind::kDirect,     Kind::kDirectStaged, Kind::kBySize,
    Kind::kHostShared, Kind::kHostStreamed, Kind::kHostRefused};
// What a tensor is cut into, or 8 MiB.
size_t ChunkOf(Kind kind);
// Whether a send's callback means that nothing reads the memory any more; if
// not, then only work that comes later on its stream may write it.
bool IsFreeForAll(Kind kind);

std::shared_ptr<tensorpipe::channel::Context> MakeContext(
    Kind kind, const GpuChannelEnvironment& environment);

// A machine and two contexts.
class Ends {
 public:
  explicit Ends(Kind kind, unsigned seed = 1);
  ~Ends();

  const Kind kind;
  FakeGpus gpus;
  FakeDriver near_driver{gpus};
  FakeDriver other_driver{gpus};
  // The same for both ends of cuda_xth.
  FakeDriver& far_driver;
  std::shared_ptr<tensorpipe::channel::Context> near;
  std::shared_ptr<tensorpipe::channel::Context> far;
  std::unique_ptr<Wires> owned_wires = std::make_unique<Wires>();
  Wires& wires = *owned_wires;
  std::optional<Link> link;

  void Connect() { link.emplace(wires, *near, *far); }
  // Ends the contexts and the transport, whose callbacks keep channels alive.
  // What the processes still hold then.
  std::string Finish();
  GpuChannelEnvironment EnvironmentOf(bool is_near);
};

// Memory of a fake GPU with a stream of its own.
class Tensor {
 public:
  Tensor(FakeDriver& driver, size_t num_bytes, Kind kind);
  ~Tensor();
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;

  // On the stream: as late as the GPU likes.
  void Fill(int pattern);
  // At once.
  void Spoil();
  bool Has(int pattern);  // once the stream has come to an end
  GpuBuffer buffer() const { return {memory_, stream_}; }
  GpuStream stream() const { return stream_; }
  size_t num_bytes() const { return num_bytes_; }

 private:
  FakeDriver& driver_;
  void* memory_ = nullptr;
  const size_t num_bytes_;
  GpuStream stream_;
};

Result SendTensor(tensorpipe::channel::Channel& channel, const Tensor& tensor,
                  std::function<void(const tensorpipe::Error&)> and_then = {});
Result ReceiveTensor(tensorpipe::channel::Channel& channel,
                     const Tensor& tensor);

}  // namespace reprise

#endif  // REPRISE_TESTS_UNIT_TRANSPORT_CUDA_CUDA_TESTING_H_

// Agents of one process with GPUs whose work is done in any order that streams
// and events allow.

#ifndef REPRISE_TESTS_UNIT_AGENT_GPU_CLUSTER_H_
#define REPRISE_TESTS_UNIT_AGENT_GPU_CLUSTER_H_

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <utility>

#include "agent/agent.h"
#include "agent/device/devices.h"
#include "agent/device/tensor.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"
#include "tests/unit/transport/cuda/fake_gpus.h"

namespace reprise::testing {

class GpuCluster : public ::testing::Test {
 protected:
  GpuCluster() { cluster_.set_devices(&devices_); }

  // Two workers. `customize` may be null.
  void Start(RequestHandler handler, const Cluster::Customize& customize) {
    cluster_.Start(2, std::move(handler), [&](AgentOptions& options) {
      options.transport.channels = {"basic", "cuda_xth", "cuda_basic"};
      if (customize) customize(options);
    });
  }
  // The same, and w0 has this map to w1, and to itself.
  void StartWith(const DeviceMap& map, RequestHandler handler) {
    Start(std::move(handler), [&](AgentOptions& options) {
      if (options.id != 0) return;
      options.device_maps["w1"] = map;
      options.device_maps["w0"] = map;
    });
  }

  // On the CPU or a GPU, of bytes that all have this value. On a GPU they get
  // it when `stream` comes to that.
  Tensor Make(const Device& device, char value, GpuStream stream,
              int64_t size = 100) {
    Tensor tensor = *MakeTensor(DType::kUInt8, {size});
    const auto num_bytes = static_cast<size_t>(size);
    if (device == CpuDevice()) {
      std::memset(tensor.storage->data(), value, num_bytes);
      return tensor;
    }
    StreamSet streams;
    streams.Set(stream);
    tensor.storage = *devices_.Allocate(device, num_bytes, streams);
    // Work of a GPU keeps no storage.
    driver_.Do(stream, [data = tensor.storage->data(), value, num_bytes] {
      std::memset(data, value, num_bytes);
    });
    return tensor;
  }
  Tensor Make(const Device& device, char value) {
    return Make(device, value, {device.index, GpuStream::kDefault});
  }

  GpuStream NewStream(int device) {
    return devices_.gpu_streams()->Next({device})->On(device);
  }
  static StreamSet Only(GpuStream stream) {
    StreamSet streams;
    streams.Set(stream);
    return streams;
  }

  // Its first and its last byte, when nobody works on it.
  static std::string Bytes(const Tensor& tensor) {
    const auto* const data = static_cast<const char*>(tensor.storage->data());
    return {data[0], data[tensor.storage->num_bytes() - 1]};
  }

  // A call that needs no GPU.
  absl::Status CallOnCpu() {
    return cluster_[0].Send("w1", Request("cpu")).status();
  }

  static bool Until(const std::function<bool()>& holds) {
    const absl::Time deadline = Soon();
    while (!holds()) {
      if (RealRuntime().Now() > deadline) return false;
      RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(1));
    }
    return true;
  }

  FakeGpus gpus_{4};
  FakeDriver driver_{gpus_};
  Devices devices_{RealRuntime(), static_cast<GpuDriver*>(&driver_)};
  Cluster cluster_;
};

}  // namespace reprise::testing

#endif  // REPRISE_TESTS_UNIT_AGENT_GPU_CLUSTER_H_

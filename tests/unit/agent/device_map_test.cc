// Where tensors go: device maps there and back, of an agent and of a call, and
// what happens to those for which there is no way.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/agent.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/gpu_cluster.h"

namespace reprise::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kOnlyCpu[] =
    "TensorPipe RPC backend only supports CPU tensors by default, please move "
    "your tensors to CPU before sending them over RPC, or call "
    "`set_device_map` on `TensorPipeRpcBackendOptions` to explicitly configure "
    "device mapping. ";

const Device kCpu = CpuDevice();
const Device kGpu0 = GpuDevice(0);
const Device kGpu1 = GpuDevice(1);
const Device kGpu2 = GpuDevice(2);
const Device kGpu3 = GpuDevice(3);

std::string DevicesOf(const Message& message) {
  return absl::StrJoin(message.tensors, " ",
                       [](std::string* out, const Tensor& tensor) {
                         out->append(tensor.storage->device().ToString());
                       });
}

// Answers with the tensors, and says where they arrived.
RequestHandler SayDevices() {
  return Blocking(
      [](Message request, const RequestInfo&) -> absl::StatusOr<Message> {
        request.type = MessageType::kScriptRet;
        request.payload = DevicesOf(request);
        return request;
      });
}

class DeviceMapTest : public GpuCluster {
 protected:
  Message Call(const std::string& to, Message request,
               const CallOptions& options = {}) {
    const Future reply = cluster_[0].Send(to, std::move(request), options);
    const absl::Status status = reply.Synchronize(devices_);
    EXPECT_TRUE(status.ok()) << status;
    return status.ok() ? *reply.result() : Message();
  }

  Message TwoTensors(const Device& x, const Device& y) {
    Message request = Request("");
    request.tensors = {Make(x, 'x'), Make(y, 'y')};
    return request;
  }
};

// Upstream's device_map_cpu to device_map_gpu_mixed_8, and the same to itself.
class PlacementTest
    : public DeviceMapTest,
      public ::testing::WithParamInterface<std::vector<Device>> {};

TEST_P(PlacementTest, ThereAndBack) {
  const Device& x_from = GetParam()[0];
  const Device& x_to = GetParam()[1];
  const Device& y_from = GetParam()[2];
  const Device& y_to = GetParam()[3];
  StartWith({{x_from, x_to}, {y_from, y_to}}, SayDevices());
  for (const char* const to : {"w1", "w0"}) {
    const Message reply = Call(to, TwoTensors(x_from, y_from));
    ASSERT_EQ(reply.tensors.size(), 2u);
    EXPECT_EQ(reply.payload,
              absl::StrCat(x_to.ToString(), " ", y_to.ToString()));
    EXPECT_EQ(DevicesOf(reply),
              absl::StrCat(x_from.ToString(), " ", y_from.ToString()));
    EXPECT_EQ(Bytes(reply.tensors[0]), "xx");
    EXPECT_EQ(Bytes(reply.tensors[1]), "yy");
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, PlacementTest,
    ::testing::Values(std::vector<Device>{kCpu, kCpu, kCpu, kCpu},
                      std::vector<Device>{kCpu, kGpu0, kGpu1, kCpu},
                      std::vector<Device>{kGpu0, kGpu0, kGpu1, kGpu1},
                      std::vector<Device>{kGpu0, kGpu1, kGpu1, kGpu0},
                      std::vector<Device>{kGpu0, kGpu2, kGpu3, kGpu1},
                      std::vector<Device>{kCpu, kGpu3, kGpu0, kGpu2},
                      std::vector<Device>{kGpu2, kCpu, kGpu0, kGpu1},
                      std::vector<Device>{kCpu, kCpu, kGpu1, kGpu3}));

// A reply may be on a device that no tensor of the request was on.
TEST_F(DeviceMapTest, TheReplyGoesTheWayBack) {
  StartWith({{kGpu0, kGpu2}, {kGpu1, kGpu3}},
            Blocking([this](Message, const RequestInfo&) {
              Message reply{MessageType::kScriptRet, "", {}};
              reply.tensors = {Make(kGpu3, 'z')};
              return absl::StatusOr<Message>(std::move(reply));
            }));
  const Message reply = Call("w1", Request(""));
  ASSERT_EQ(reply.tensors.size(), 1u);
  EXPECT_EQ(DevicesOf(reply), "cuda:1");
  EXPECT_EQ(Bytes(reply.tensors[0]), "zz");
}

TEST_F(DeviceMapTest, TensorsOfOneStorageStayTogether) {
  StartWith({{kGpu0, kGpu1}}, Blocking([](Message request, const RequestInfo&) {
              request.type = MessageType::kScriptRet;
              request.payload =
                  request.tensors[0].storage == request.tensors[2].storage
                      ? "one storage"
                      : "two storages";
              return absl::StatusOr<Message>(std::move(request));
            }));
  const Tensor x = Make(kGpu0, 'x');
  Tensor half = x;
  half.sizes = {60};
  half.storage_offset = 40;
  Message request = Request("");
  request.tensors = {x, Make(kCpu, 'c'), half};
  const Message reply = Call("w1", std::move(request));
  EXPECT_EQ(reply.payload, "one storage");
  ASSERT_EQ(reply.tensors.size(), 3u);
  EXPECT_EQ(reply.tensors[0].storage, reply.tensors[2].storage);
  EXPECT_EQ(reply.tensors[2].storage_offset, 40);
  EXPECT_EQ(DevicesOf(reply), "cuda:0 cpu:0 cuda:0");
}

TEST_F(DeviceMapTest, ASmallViewOfALargeStorageIsCopiedOnItsGpu) {
  StartWith({{kGpu0, kGpu1}}, Blocking([](Message request, const RequestInfo&) {
              request.type = MessageType::kScriptRet;
              request.payload =
                  absl::StrCat(request.tensors[0].storage->num_bytes());
              return absl::StatusOr<Message>(std::move(request));
            }));
  Tensor rows = Make(kGpu0, 'r', {0, GpuStream::kDefault}, 1 << 20);
  rows.sizes = {2, 50};
  rows.strides = {1000, 1};
  rows.storage_offset = 7;
  Message request = Request("");
  request.tensors = {rows};
  const Message reply = Call("w1", std::move(request));
  EXPECT_EQ(reply.payload, "100");
  ASSERT_EQ(reply.tensors.size(), 1u);
  EXPECT_EQ(Bytes(reply.tensors[0]), "rr");
}

TEST_F(DeviceMapTest, WithoutAMapACallFailsAtOnceAndTheAgentWorksOn) {
  StartWith({}, SayDevices());
  Message request = Request("");
  request.tensors = {Make(kCpu, 'c'), Make(kGpu1, 'x')};
  const Future refused = cluster_[0].Send("w1", request);
  EXPECT_TRUE(refused.done());
  EXPECT_EQ(refused.status().message(),
            absl::StrCat(kOnlyCpu,
                         "Request device mapping is not available for "
                         "destination w1, but found tensor on device: cuda:1"));
  EXPECT_FALSE(RetryMayHelp(refused.status()));
  EXPECT_EQ(cluster_[0].GetMetrics()["agent.client_active_calls"], 0);
  EXPECT_TRUE(CallOnCpu().ok());
}

TEST_F(DeviceMapTest, ADeviceThatIsNotInTheMap) {
  StartWith({{kGpu0, kGpu0}}, SayDevices());
  Message request = Request("");
  request.tensors = {Make(kGpu1, 'x')};
  EXPECT_EQ(cluster_[0].Send("w1", request).status().message(),
            absl::StrCat(kOnlyCpu,
                         "Request device mapping is not available for "
                         "destination w1 for device cuda:1 but received a "
                         "tensor on that device."));
  EXPECT_TRUE(CallOnCpu().ok());
}

TEST_F(DeviceMapTest, AReplyWithoutAMapIsAnError) {
  StartWith({}, Blocking([this](Message request, const RequestInfo&) {
              Message reply{MessageType::kScriptRet, "", {}};
              if (request.payload != "cpu") reply.tensors = {Make(kGpu1, 'z')};
              return absl::StatusOr<Message>(std::move(reply));
            }));
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(
        std::string(cluster_[0].Send("w1", Request("")).status().message()),
        HasSubstr(absl::StrCat(
            kOnlyCpu,
            "Response device mapping is not available for "
            "destination w0, but found tensor on device: cuda:1")));
    EXPECT_TRUE(CallOnCpu().ok());
  }
}

TEST_F(DeviceMapTest, ACallMayHaveAMapOfItsOwn) {
  StartWith({{kGpu0, kGpu1}}, SayDevices());
  CallOptions options;
  options.device_map = {{kGpu0, kGpu3}, {kGpu2, kCpu}};
  const Message reply = Call("w1", TwoTensors(kGpu0, kGpu2), options);
  EXPECT_EQ(reply.payload, "cuda:3 cpu:0");
  ASSERT_EQ(reply.tensors.size(), 2u);
  EXPECT_EQ(DevicesOf(reply), "cuda:0 cuda:2");
  EXPECT_EQ(Bytes(reply.tensors[1]), "yy");

  options.device_map = {{kGpu0, kGpu3}, {kGpu2, kGpu3}};
  EXPECT_THAT(
      std::string(
          cluster_[0].Send("w1", Request(""), options).status().message()),
      StartsWith("Node w0 has duplicated target devices in its device map"));
  options.device_map = {{GpuDevice(4), kGpu3}};
  EXPECT_THAT(
      std::string(
          cluster_[0].Send("w1", Request(""), options).status().message()),
      StartsWith("Node w0 has source devices with invalid indices"));
}

TEST_F(DeviceMapTest, ADeviceThatThePeerDoesNotHave) {
  StartWith({}, SayDevices());
  Message request = Request("");
  request.tensors = {Make(kGpu0, 'x')};
  CallOptions options;
  options.device_map = {{kGpu0, GpuDevice(9)}};
  const absl::Status status = cluster_[0].Send("w1", request, options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("no channel from cuda:0 here to cuda:9 of w1"));
  EXPECT_TRUE(CallOnCpu().ok());
}

// `AgentOptions::devices`: a peer sends to others, or the handler uses one.
TEST_F(DeviceMapTest, OnlyTheDevicesThatMayBeUsed) {
  Start(Blocking([this](Message request, const RequestInfo&) {
          Message reply{MessageType::kScriptRet, DevicesOf(request), {}};
          if (request.payload == "output") reply.tensors = {Make(kGpu3, 'z')};
          return absl::StatusOr<Message>(std::move(reply));
        }),
        [](AgentOptions& options) {
          if (options.id == 0) {
            options.device_maps["w1"] = {{kGpu0, kGpu1}};
          } else {
            options.devices = {kGpu1, kGpu2};
          }
        });
  EXPECT_EQ(Call("w1",
                 [&] {
                   Message request = Request("");
                   request.tensors = {Make(kGpu0, 'x')};
                   return request;
                 }())
                .payload,
            "cuda:1");

  CallOptions options;
  options.device_map = {{kGpu0, kGpu3}};
  Message request = Request("");
  request.tensors = {Make(kGpu0, 'x')};
  EXPECT_THAT(
      std::string(cluster_[0].Send("w1", request, options).status().message()),
      HasSubstr("a tensor is to arrive on cuda:3, which is not one of "
                "the devices of this worker"));
  EXPECT_THAT(
      std::string(cluster_[0]
                      .Send("w1", Request("output"), options)
                      .status()
                      .message()),
      HasSubstr("RPC detected that a user-function output tensor on device "
                "cuda:3. This device is not one of the input tensor devices: "
                "cuda:1, cuda:2, which is not yet supported."));
  EXPECT_TRUE(CallOnCpu().ok());
  EXPECT_EQ(cluster_[0].GetMetrics()["agent.reconnects"], 0);
}

// What is too large is read and thrown away, on GPUs too.
TEST_F(DeviceMapTest, TooLargeForTheReceiver) {
  Start(SayDevices(), [](AgentOptions& options) {
    if (options.id == 0) {
      options.device_maps["w1"] = {{kGpu0, kGpu1}};
    } else {
      options.max_tensor_bytes = 1000;
    }
  });
  Message request = Request("");
  request.tensors = {Make(kGpu0, 'x', {0, GpuStream::kDefault}, 1 << 20)};
  const absl::Status status = cluster_[0].Send("w1", request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  request.tensors = {Make(kGpu0, 'x')};
  EXPECT_EQ(Call("w1", request).payload, "cuda:1");
  EXPECT_EQ(cluster_[0].GetMetrics()["agent.reconnects"], 0);
}

TEST_F(DeviceMapTest, MemoryForRepliesIsForThoseThatComeToTheCpu) {
  StartWith({{kGpu0, kGpu1}}, SayDevices());
  CallOptions options;
  options.receive_into.storages = {*AllocateCpu(100)};
  const Message reply = Call("w1", TwoTensors(kGpu0, kCpu), options);
  ASSERT_EQ(reply.tensors.size(), 2u);
  EXPECT_EQ(reply.tensors[1].storage, options.receive_into.storages[0]);
  EXPECT_EQ(Bytes(reply.tensors[0]), "xx");
  EXPECT_EQ(Bytes(reply.tensors[1]), "yy");
}

TEST_F(DeviceMapTest, MemoryOfGpusIsCounted) {
  StartWith({{kGpu0, kGpu1}}, SayDevices());
  Message reply = Call("w1", TwoTensors(kGpu0, kGpu0));
  std::map<std::string, int64_t> metrics = cluster_[0].GetMetrics();
  EXPECT_GE(metrics["agent.gpu_used_bytes"], 200);
  EXPECT_GE(metrics["agent.gpu_cache_misses"], 4);
  EXPECT_THAT(cluster_[0].GetPrometheusText(),
              HasSubstr("reprise_gpu_memory_used_bytes{worker=\"w0\","
                        "device=\"cuda:0\"}"));
  reply = Message();
  EXPECT_TRUE(Until(
      [&] { return cluster_[0].GetMetrics()["agent.gpu_used_bytes"] == 0; }));
  EXPECT_GT(cluster_[0].GetMetrics()["agent.gpu_cached_bytes"], 0);
}

// Upstream's device_maps_wrong_worker_name, invalid_max_remote_device and the
// like, in a static group.
TEST_F(DeviceMapTest, MapsOfAStaticGroupAreCheckedAgainstEachOther) {
  const auto start = [&](const char* to, const DeviceMap& map) {
    std::vector<AgentOptions> options = {OptionsFor(0, 2), OptionsFor(1, 2)};
    options[0].device_maps[to] = map;
    options[1].devices = {kGpu1};
    Cluster cluster;
    cluster.set_devices(&devices_);
    const std::vector<absl::Status> statuses =
        cluster.TryStart(options, Echo(), Soon());
    EXPECT_EQ(statuses[0], statuses[1]);
    if (statuses[0].ok()) {
      EXPECT_EQ(*cluster[1].GetReverseDeviceMap("w0"), Reverse(map));
      EXPECT_EQ(cluster[0].GetDevices(), std::vector<Device>{kGpu0});
    }
    return std::string(statuses[0].message());
  };
  EXPECT_EQ(start("w1", {{kGpu0, kGpu1}}), "");
  EXPECT_THAT(start("w7", {{kGpu0, kGpu1}}),
              StartsWith("Node w0 has invalid target node names in its device "
                         "maps"));
  EXPECT_THAT(start("w1", {{kGpu0, kGpu2}}),
              StartsWith("Node w0 has unexpected target devices in its device "
                         "map for w1"));
}

TEST(DeviceStartTest, MapsAreCheckedAgainstTheGpusThatThereAre) {
  Devices none;
  Cluster cluster;
  cluster.set_devices(&none);
  AgentOptions options = OptionsFor(0, 1);
  options.device_maps["w0"] = {{kGpu0, kGpu0}};
  EXPECT_THAT(std::string(cluster.StartOne(options, Echo(), Soon()).message()),
              StartsWith("Node w0 has source devices with invalid indices"));
}

}  // namespace
}  // namespace reprise::testing

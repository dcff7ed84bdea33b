// In which order GPUs work: the waits between the streams of a caller, of the
// agents, of a handler and of whoever takes the reply; and what becomes of
// calls when a GPU fails.

#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/agent.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/gpu_cluster.h"

namespace reprise::testing {
namespace {

const Device kGpu0 = GpuDevice(0);
const Device kGpu1 = GpuDevice(1);

class DeviceStreamTest : public GpuCluster {
 protected:
  // Adds 1 to each byte when the stream comes to it.
  void AddOne(const Tensor& tensor, GpuStream stream) {
    driver_.Do(stream, [bytes = static_cast<char*>(tensor.storage->data()),
                        num_bytes = tensor.storage->num_bytes()] {
      for (size_t i = 0; i < num_bytes; ++i) ++bytes[i];
    });
  }
  // What the bytes are when the stream comes to it.
  std::shared_ptr<std::string> ReadOn(const Tensor& tensor, GpuStream stream) {
    auto read = std::make_shared<std::string>("not yet");
    driver_.Do(stream, [read, data = static_cast<char*>(tensor.storage->data()),
                        num_bytes = tensor.storage->num_bytes()] {
      *read = {data[0], data[num_bytes - 1]};
    });
    return read;
  }

  Message OneTensor(const Tensor& tensor, const StreamSet& streams) {
    Message request = Request("");
    request.tensors = {tensor};
    request.streams = streams;
    return request;
  }
};

// Upstream's custom_stream tests: nobody waits on the host, and nobody reads
// what is not there. The caller's stream is the only one that is held up, and
// all others wait for it, one after another.
class EveryStreamWaitsTest : public DeviceStreamTest,
                             public ::testing::WithParamInterface<bool> {};

TEST_P(EveryStreamWaitsTest, ForTheOneBeforeIt) {
  const bool reply_names_streams = GetParam();
  StartWith({{kGpu0, kGpu1}},
            Blocking([&](Message request, const RequestInfo&) {
              const GpuStream stream = request.streams.On(1);
              EXPECT_NE(stream.handle, GpuStream::kDefault);
              AddOne(request.tensors[0], stream);
              Message reply{MessageType::kScriptRet, "", request.tensors};
              if (reply_names_streams) reply.streams = Only(stream);
              return absl::StatusOr<Message>(std::move(reply));
            }));
  const GpuStream made_on = NewStream(0);
  const GpuStream mine = NewStream(0);
  for (int i = 0; i < 20; ++i) {
    driver_.Hold(made_on);
    const Future reply = cluster_[0].Send(
        "w1", OneTensor(Make(kGpu0, 'a', made_on), Only(made_on)));
    ASSERT_TRUE(reply.status().ok()) << reply.status();
    ASSERT_TRUE(reply.WaitOn(devices_, Only(mine)).ok());
    const auto read = ReadOn(reply.result()->tensors[0], mine);
    EXPECT_EQ(*read, "not yet");  // all is done but the work
    driver_.Release(made_on);
    ASSERT_TRUE(driver_.Synchronize(mine).ok());
    EXPECT_EQ(*read, "bb");
  }
}

INSTANTIATE_TEST_SUITE_P(Replies, EveryStreamWaitsTest, ::testing::Bool());

TEST_F(DeviceStreamTest, WithoutAStreamTheDefaultStreamCounts) {
  StartWith({{kGpu0, kGpu1}}, Echo());
  const GpuStream default_stream{0, GpuStream::kDefault};
  driver_.Hold(default_stream);
  const Future reply =
      cluster_[0].Send("w1", OneTensor(Make(kGpu0, 'a', default_stream), {}));
  ASSERT_TRUE(reply.status().ok()) << reply.status();
  driver_.Release(default_stream);
  ASSERT_TRUE(reply.Synchronize(devices_).ok());
  EXPECT_EQ(Bytes(reply.result()->tensors[0]), "aa");
}

// A handler that is sent no tensor still gets streams for its devices.
TEST_F(DeviceStreamTest, HandlersGetStreamsOfAllTheirDevices) {
  Start(Blocking([](Message request, const RequestInfo&) {
          const auto is_own = [&](int device) {
            return request.streams.Has(device) &&
                   request.streams.On(device).handle != GpuStream::kDefault;
          };
          return absl::StatusOr<Message>(
              Message{MessageType::kScriptRet,
                      absl::StrCat(is_own(0), is_own(1), is_own(2), is_own(3)),
                      {}});
        }),
        [](AgentOptions& options) {
          if (options.id == 1) {
            options.device_maps["w0"] = {{kGpu1, kGpu0}, {GpuDevice(3), kGpu1}};
          }
        });
  const Future reply = cluster_[0].Send("w1", Request(""));
  ASSERT_TRUE(reply.status().ok()) << reply.status();
  EXPECT_EQ(reply.result()->payload, "0101");
}

// A copy out of the memory may be on a stream still when the call is over.
TEST_F(DeviceStreamTest, TheGuardOfAMessageStaysUntilTheGpuIsDone) {
  StartWith({{kGpu0, kGpu1}}, Echo());
  const GpuStream made_on = NewStream(0);
  driver_.Hold(made_on);
  std::atomic<bool> is_released = false;
  {
    Message request = OneTensor(Make(kGpu0, 'a', made_on), Only(made_on));
    request.release_guard = OnReleased([&] { is_released = true; });
    const Future reply = cluster_[0].Send("w1", std::move(request));
    ASSERT_TRUE(reply.status().ok()) << reply.status();
  }
  ASSERT_TRUE(CallOnCpu().ok());
  EXPECT_FALSE(is_released);
  driver_.Release(made_on);
  EXPECT_TRUE(Until([&] { return is_released.load(); }));
}

// Each call of the driver fails once: at most a call of the agent's fails, and
// what succeeds is right.
TEST_F(DeviceStreamTest, AFailureOfTheDriverFailsACallAtMost) {
  StartWith({{kGpu0, kGpu1}}, Echo());
  int num_failed = 0;
  for (int n = 1; n <= 40; ++n) {
    const Tensor tensor = Make(kGpu0, 'a');
    ASSERT_TRUE(driver_.Synchronize(GpuStream{0, 0}).ok());
    driver_.FailCall(n);
    const Future reply = cluster_[0].Send("w1", OneTensor(tensor, {}));
    ASSERT_TRUE(reply.Wait(Soon()));
    if (reply.status().ok()) {
      if (!reply.Synchronize(devices_).ok()) continue;
      EXPECT_EQ(Bytes(reply.result()->tensors[0]), "aa") << n;
    } else {
      ++num_failed;
    }
    driver_.FailCall(0);
    // What failed was this call or its connection.
    EXPECT_TRUE(Until([&] { return CallOnCpu().ok(); })) << n;
  }
  EXPECT_GT(num_failed, 0);
  const Future reply = cluster_[0].Send("w1", OneTensor(Make(kGpu0, 'b'), {}));
  ASSERT_TRUE(reply.Synchronize(devices_).ok());
  EXPECT_EQ(Bytes(reply.result()->tensors[0]), "bb");
}

}  // namespace
}  // namespace reprise::testing

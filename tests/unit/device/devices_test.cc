#include "agent/device/devices.h"

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "agent/device/gpu_buffer.h"
#include "agent/runtime/runtime.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensorpipe/common/cpu_buffer.h"
#include "tests/unit/device/fake_gpus.h"

namespace reprise {
namespace {

using testing::HasSubstr;

TEST(DevicesTest, WithoutGpusItSaysWhy) {
  const absl::Status why = absl::UnimplementedError("no driver is loaded");
  Devices devices(RealRuntime(), why);
  EXPECT_TRUE(devices.Check(CpuDevice()).ok());
  EXPECT_EQ(devices.Check(GpuDevice(0)).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(devices.Check(GpuDevice(0)).message()),
              HasSubstr("cuda:0: no driver is loaded"));
  EXPECT_EQ(devices.Allocate(GpuDevice(0), 1, {}).status(),
            devices.Check(GpuDevice(0)));
  EXPECT_EQ(devices.Find("cuda"), nullptr);
  EXPECT_EQ(devices.gpu_count(), 0);
  EXPECT_EQ(devices.gpu_driver(), nullptr);
  EXPECT_EQ(devices.gpu_streams(), nullptr);
  EXPECT_EQ(devices.gpu_memory(), nullptr);

  auto storage = devices.Allocate(CpuDevice(), 16, {});
  ASSERT_TRUE(storage.ok()) << storage.status();
  auto buffer = devices.ToBuffer(**storage, {});
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  EXPECT_EQ(buffer->unwrap<tensorpipe::CpuBuffer>().ptr, (*storage)->data());
}

TEST(DevicesTest, KnowsWhichDevicesThereAre) {
  FakeGpus gpus(2);
  Devices devices(RealRuntime(), &gpus);
  EXPECT_EQ(devices.gpu_count(), 2);
  EXPECT_EQ(devices.gpu_driver(), &gpus);
  EXPECT_TRUE(devices.Check(GpuDevice(1)).ok());
  for (const Device& device : {GpuDevice(2), GpuDevice(-1), Device{"cpu", 1},
                               Device{"hip", 0}, Device{"", 0}}) {
    EXPECT_EQ(devices.Check(device).code(), absl::StatusCode::kInvalidArgument)
        << device.ToString();
    EXPECT_EQ(devices.Allocate(device, 1, {}).status(), devices.Check(device));
  }
  EXPECT_EQ(devices.Find("hip"), nullptr);
  EXPECT_THAT(std::string(devices.Check(GpuDevice(2)).message()),
              HasSubstr("has 2"));
}

TEST(DevicesTest, BuffersOfGpusTravelWithTheirStream) {
  FakeGpus gpus(2);
  Devices devices(RealRuntime(), &gpus);
  const GpuStream stream{1, 42};
  StreamSet streams;
  streams.Set(stream);
  auto storage = devices.Allocate(GpuDevice(1), 1000, streams);
  ASSERT_TRUE(storage.ok()) << storage.status();
  auto buffer = devices.ToBuffer(**storage, streams);
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  EXPECT_EQ(buffer->device().toString(), "cuda:1");
  EXPECT_EQ(buffer->unwrap<GpuBuffer>().ptr, (*storage)->data());
  EXPECT_EQ(buffer->unwrap<GpuBuffer>().stream, stream);

  // Without a stream for the device it is the default stream.
  buffer = devices.ToBuffer(**storage, {});
  ASSERT_TRUE(buffer.ok()) << buffer.status();
  EXPECT_EQ(buffer->unwrap<GpuBuffer>().stream, (GpuStream{1, 0}));

  // The storage knows of its use on that stream, which is not done yet.
  gpus.Hold({1, 0});
  void* const address = (*storage)->data();
  storage->reset();
  EXPECT_NE((*devices.Allocate(GpuDevice(1), 1000, streams))->data(), address);
}

TEST(DevicesTest, ABufferOfADeviceThatIsNotThereIsAnError) {
  FakeGpus gpus(1);
  Devices with_gpus(RealRuntime(), &gpus);
  Devices without;
  auto storage = with_gpus.Allocate(GpuDevice(0), 8, {});
  ASSERT_TRUE(storage.ok());
  EXPECT_EQ(without.ToBuffer(**storage, {}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace reprise

// The frames and descriptors of the channels that TensorPipe has, byte for
// byte, and who agrees with whom.

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "agent/transport/cuda/channels.h"
#include "agent/transport/cuda/wire.h"
#include "gtest/gtest.h"
#include "tensorpipe/channel/basic/factory.h"
#include "tests/unit/transport/cuda/raw_peer.h"

namespace reprise {
namespace {

std::string Hex64(uint64_t value) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &value, 8);
  return absl::BytesToHexString(bytes);
}

std::string DescriptorOf(tensorpipe::channel::Context& context,
                         const char* type = "cuda", int index = 0) {
  return context.deviceDescriptors().at(tensorpipe::Device(type, index));
}

TEST(CudaFramesTest, Xth) {
  Ends ends(Kind::kXth);
  EXPECT_EQ(DescriptorOf(*ends.near), "boot_4_effffffc_1001");
  EXPECT_EQ(ends.near->numConnectionsNeeded(), 2u);
  RawPeer peer(ends);
  Tensor tensor(ends.near_driver, 100, ends.kind);
  // Of the default stream, which is 0, of device 1.
  GpuBuffer buffer = tensor.buffer();
  buffer.stream = {1, GpuStream::kDefault};
  auto sent = std::make_shared<std::promise<tensorpipe::Error>>();
  peer.channel->send(buffer, 100, [sent](const tensorpipe::Error& error) {
    sent->set_value(error);
  });
  const std::string frame = peer.Read(0);
  XthDescriptor descriptor;
  ASSERT_TRUE(DecodeObject(frame, descriptor));
  EXPECT_EQ(descriptor.source, reinterpret_cast<uint64_t>(buffer.ptr));
  EXPECT_EQ(descriptor.device, 1);
  // The event's handle is small here, and a pointer on CUDA.
  ASSERT_LT(descriptor.start_event, 128u);
  EXPECT_EQ(
      absl::BytesToHexString(frame),
      absl::StrCat("b904", absl::Hex(descriptor.start_event, absl::kZeroPad2),
                   "83", Hex64(descriptor.source), "01", "00"));
  EXPECT_EQ(
      EncodeObject(XthDescriptor{uint64_t{1} << 40, uint64_t{1} << 40, 1, 0})
          .size(),
      22u);
  peer.WriteEmpty(1);
  Result result = sent->get_future();
  EXPECT_FALSE(Await(result));
}

TEST(CudaFramesTest, IpcSends) {
  Ends ends(Kind::kIpc);
  const std::string uuid = "00000000-0000-0000-0000-000000000000";
  EXPECT_EQ(DescriptorOf(*ends.near),
            absl::StrCat("\xb9\x03\xbd\x04", "boot", "\x85\xe9\x03", "\xbd\x24",
                         uuid));
  RawPeer peer(ends);
  Tensor tensor(ends.near_driver, size_t{9} << 20, ends.kind);
  tensor.Fill(1);
  Result sent = SendTensor(*peer.channel, tensor);
  const std::string first = peer.Read(0);
  IpcDescriptor descriptor;
  ASSERT_TRUE(DecodeObject(first, descriptor));
  ASSERT_TRUE(descriptor.outbox.has_value());
  const std::string& process = descriptor.outbox->process;
  EXPECT_EQ(process.substr(0, 16), "4_effffffc_1001_");
  std::string expected =
      absl::StrCat(absl::HexStringToBytes("b9030000b903bd"),
                   std::string(1, static_cast<char>(process.size())), process,
                   "\xbd\x40", descriptor.outbox->memory_handle, "\xba\x04");
  for (const std::string& handle : descriptor.outbox->event_handles) {
    absl::StrAppend(&expected, "\xbd\x40", handle);
  }
  EXPECT_EQ(first, expected);
  EXPECT_EQ(first.size(), 355u - 15u + process.size());
  EXPECT_EQ(peer.ReadHex(0), "b9030001be");
  EXPECT_FALSE(Await(sent));  // without a reply
  // A slot that is given back is the lowest.
  Tensor small(ends.near_driver, 10, ends.kind);
  peer.WriteEmpty(1);
  Result again = SendTensor(*peer.channel, small);
  EXPECT_FALSE(Await(again));
  const std::string third = peer.ReadHex(0);
  EXPECT_TRUE(third == "b9030000be" || third == "b9030002be") << third;
}

TEST(CudaFramesTest, BasicInBothDirections) {
  Ends ends(Kind::kBasic);
  EXPECT_EQ(DescriptorOf(*ends.near),
            "\xb9\x02\xbd\x04"
            "cuda"
            "\xbd\x03"
            "any");
  EXPECT_EQ(DescriptorOf(*ends.near, "cpu"),
            "\xb9\x02\xbd\x03"
            "cpu"
            "\xbd\x03"
            "any");
  EXPECT_EQ(ends.near->numConnectionsNeeded(), 2u);
  EXPECT_TRUE(ends.near->canCommunicateWithRemote(
      DescriptorOf(*ends.near, "cpu"), DescriptorOf(*ends.near)));
  EXPECT_FALSE(ends.near->canCommunicateWithRemote(
      DescriptorOf(*ends.near, "cpu"), DescriptorOf(*ends.near, "cpu")));
  RawPeer peer(ends);
  constexpr size_t kChunk = size_t{1} << 20;
  Tensor tensor(ends.near_driver, kChunk + 5, ends.kind);
  tensor.Fill(1);
  Result sent = SendTensor(*peer.channel, tensor);
  EXPECT_EQ(peer.Read(1), "");
  EXPECT_EQ(peer.Read(1), "");
  std::string bytes = peer.Read(0);
  EXPECT_EQ(bytes.size(), kChunk);
  bytes += peer.Read(0);
  ASSERT_EQ(bytes.size(), kChunk + 5);
  EXPECT_FALSE(Await(sent));
  // What came is sent back.
  Tensor target(ends.near_driver, kChunk + 5, ends.kind);
  Result received = ReceiveTensor(*peer.channel, target);
  peer.WriteEmpty(1);
  peer.Write(0, bytes.substr(0, kChunk));
  peer.WriteEmpty(1);
  peer.Write(0, bytes.substr(kChunk));
  EXPECT_FALSE(Await(received));
  EXPECT_TRUE(target.Has(1));
}

TEST(CudaFramesTest, BasicWithHostMemoryAtOneEnd) {
  Ends ends(Kind::kBasic);
  ends.Connect();
  std::string host(size_t{3} << 20, 'h');
  Tensor target(ends.far_driver, host.size(), ends.kind);
  Result sent = Send(*ends.link->near, host.data(), host.size());
  Result received = ReceiveTensor(*ends.link->far, target);
  EXPECT_FALSE(Await(sent));
  EXPECT_FALSE(Await(received));
  std::string back(host.size(), ' ');
  Result sent_back = SendTensor(*ends.link->far, target);
  Result received_back = Receive(*ends.link->near, back.data(), back.size());
  EXPECT_FALSE(Await(sent_back));
  EXPECT_FALSE(Await(received_back));
  EXPECT_EQ(back, host);
}

TEST(CudaFramesTest, WhoAgreesWithWhom) {
  Ends ipc(Kind::kIpc);
  const std::string ours = DescriptorOf(*ipc.near);
  EXPECT_TRUE(ipc.near->canCommunicateWithRemote(ours, DescriptorOf(*ipc.far)));
  EXPECT_TRUE(ipc.near->canCommunicateWithRemote(
      ours, DescriptorOf(*ipc.far, "cuda", 1)));
  EXPECT_FALSE(ipc.near->canCommunicateWithRemote(ours, ours));  // one process
  // A GPU that is not of this machine, another host, and what is malformed.
  const auto describe = [](std::string boot, std::string uuid) {
    return EncodeObject(
        IpcDeviceDescriptor{std::move(boot), 7, std::move(uuid)});
  };
  const std::string uuid = ipc.near_driver.properties(0).uuid;
  EXPECT_TRUE(ipc.near->canCommunicateWithRemote(ours, describe("boot", uuid)));
  EXPECT_FALSE(
      ipc.near->canCommunicateWithRemote(ours, describe("boot", "other")));
  EXPECT_FALSE(
      ipc.near->canCommunicateWithRemote(ours, describe("other", uuid)));
  for (const char* bad : {"", "*", "\xb9\x03\xbd\xff", "\xb9\x02\xbd\x04"}) {
    EXPECT_FALSE(ipc.near->canCommunicateWithRemote(ours, bad));
  }
  Ends direct(Kind::kDirect);
  EXPECT_TRUE(direct.near->canCommunicateWithRemote(DescriptorOf(*direct.near),
                                                    DescriptorOf(*direct.far)));
  EXPECT_FALSE(direct.near->canCommunicateWithRemote(
      DescriptorOf(*direct.near), DescriptorOf(*direct.near)));
  DirectDeviceDescriptor other = {"boot", "another namespace", "4_effffffb", 7,
                                  uuid};
  EXPECT_FALSE(direct.near->canCommunicateWithRemote(DescriptorOf(*direct.near),
                                                     EncodeObject(other)));
}

TEST(CudaFramesTest, BothMeanTheSameBySmall) {
  Ends ends(Kind::kBySize);
  const std::string ours = DescriptorOf(*ends.near);
  const std::string theirs = DescriptorOf(*ends.far);
  ASSERT_EQ(theirs.substr(0, 6), "65536 ");
  EXPECT_TRUE(ends.near->canCommunicateWithRemote(ours, theirs));
  EXPECT_FALSE(
      ends.near->canCommunicateWithRemote(ours, "32768 " + theirs.substr(6)));
  EXPECT_FALSE(ends.near->canCommunicateWithRemote(ours, theirs.substr(6)));
  EXPECT_FALSE(ends.near->canCommunicateWithRemote(ours, ""));
}

TEST(CudaFramesTest, OursGoBeforeTensorPipes) {
  Ends ends(Kind::kIpc);
  const auto basic = [] { return tensorpipe::channel::basic::create(); };
  std::string names;
  int64_t last = 1000;
  for (const GpuChannel& channel :
       MakeGpuChannels(ends.EnvironmentOf(true), basic, basic)) {
    absl::StrAppend(&names, channel.name, channel.context ? " " : "- ");
    EXPECT_EQ(channel.context == nullptr, !channel.why_not.empty());
    EXPECT_LT(channel.priority, last);
    last = channel.priority;
  }
  EXPECT_EQ(names,
            "cuda_xth cuda_direct cuda_ipc cuda_gdr- cuda_host cuda_basic ");
  ends.near_driver.set_can_share(false);
  names.clear();
  for (const GpuChannel& channel :
       MakeGpuChannels(ends.EnvironmentOf(true), basic, basic)) {
    absl::StrAppend(&names, channel.name, channel.context ? " " : "- ");
  }
  EXPECT_EQ(names,
            "cuda_xth cuda_direct- cuda_ipc- cuda_gdr- cuda_host cuda_basic ");
}

}  // namespace
}  // namespace reprise

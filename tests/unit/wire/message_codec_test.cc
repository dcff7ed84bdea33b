#include "agent/wire/message_codec.h"

#include <unistd.h>

#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "agent/message.h"
#include "gtest/gtest.h"
#include "tensorpipe/common/cpu_buffer.h"
#include "tests/unit/wire/wire_testing.h"

namespace reprise {
namespace {

using Encoded = std::shared_ptr<const EncodedMessage>;

Message Request(std::string payload, std::vector<Tensor> tensors = {}) {
  return {MessageType::kPythonCall, std::move(payload), std::move(tensors)};
}

Encoded MustEncode(Message message, int64_t id = 7) {
  auto encoded = Encode(std::move(message), id);
  EXPECT_TRUE(encoded.ok()) << encoded.status();
  return encoded.ok() ? *std::move(encoded) : nullptr;
}

absl::StatusOr<DecodedMessage> Transfer(const EncodedMessage& encoded) {
  const tensorpipe::Message message = ToTensorPipe(encoded);
  auto incoming = IncomingMessage::Allocate(DescriptorOf(message));
  if (!incoming.ok()) return incoming.status();
  EXPECT_EQ(incoming->num_bytes(), encoded.num_bytes());
  const tensorpipe::Allocation allocation = incoming->allocation();
  IncomingMessage moved = *std::move(incoming);  // and nothing has moved
  Carry(message, allocation);
  return std::move(moved).Decode();
}

size_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  size_t total = 0;
  size_t resident = 0;
  file >> total >> resident;
  return resident * static_cast<size_t>(getpagesize());
}

// Memory that no backend knows.
class StrangeStorage : public Storage {
 public:
  const Device& device() const override { return device_; }
  void* data() override { return nullptr; }
  size_t num_bytes() const override { return 4; }

 private:
  Device device_{"cuda", 0};
};

TEST(EncodeTest, LaysOutFourPayloads) {
  const Encoded encoded = MustEncode(Request("hello"), 0x0102030405060708);
  const tensorpipe::Message message = ToTensorPipe(*encoded);
  EXPECT_EQ(message.metadata, "");
  ASSERT_EQ(message.payloads.size(), 4u);
  const auto bytes = [&](size_t i) {
    EXPECT_EQ(message.payloads[i].metadata, "");
    return std::string(static_cast<const char*>(message.payloads[i].data),
                       message.payloads[i].length);
  };
  EXPECT_EQ(bytes(0), std::string("\x02\x01\x00\x00", 4));
  EXPECT_EQ(bytes(1), "\x08\x07\x06\x05\x04\x03\x02\x01");
  EXPECT_EQ(bytes(2), "hello");
  EXPECT_EQ(bytes(3), EmptyTensorPickle());
  EXPECT_TRUE(message.tensors.empty());
  EXPECT_EQ(encoded->num_bytes(), 4u + 8u + 5u + 47u);
}

TEST(EncodeTest, MovesThePayload) {
  std::string payload(1000, 'x');
  const char* const address = payload.data();
  const Encoded encoded = MustEncode(Request(std::move(payload)));
  EXPECT_TRUE(ToTensorPipe(*encoded).payloads[2].data == address);
}

// A queue, a peer that reads, and a retry all keep the encoded message.
TEST(EncodeTest, TheGuardGoesWithTheLastUseOfTheMessage) {
  int released = 0;
  Message request = Request("x", {Iota({2})});
  request.release_guard = OnReleased([&] { ++released; });
  Encoded encoded = MustEncode(std::move(request));
  Encoded again = WithId(WithId(encoded, 8), 9);
  encoded.reset();
  EXPECT_EQ(released, 0);
  again.reset();
  EXPECT_EQ(released, 1);
  Message refused = Request("x", {Tensor()});
  refused.release_guard = OnReleased([&] { ++released; });
  EXPECT_FALSE(Encode(std::move(refused), 1).ok());
  EXPECT_EQ(released, 2);
}

TEST(EncodeTest, SendsEveryStorageOnce) {
  const Tensor a = Iota({2, 3});
  const Tensor b = Iota({4});
  const Encoded encoded =
      MustEncode(Request("", {a, b, View(a, {3}, {1}, 3), a}));
  const tensorpipe::Message message = ToTensorPipe(*encoded);
  ASSERT_EQ(message.tensors.size(), 2u);
  EXPECT_EQ(Pointer(message.tensors[0].buffer), a.storage->data());
  EXPECT_EQ(message.tensors[0].length, 24u);
  EXPECT_EQ(Pointer(message.tensors[1].buffer), b.storage->data());
  for (const auto& tensor : message.tensors) {
    EXPECT_EQ(tensor.metadata, "");
    ASSERT_TRUE(tensor.targetDevice.has_value());
    EXPECT_EQ(tensor.targetDevice->toString(), "cpu:0");
  }
}

TEST(EncodeTest, RoundTrip) {
  const Tensor a = Iota({2, 3});
  Tensor transposed = View(a, {3, 2}, {1, 3}, 0);
  transposed.requires_grad = true;
  const Tensor none = *MakeTensor(DType::kInt64, {0, 4});
  auto decoded =
      Transfer(*MustEncode(Request("payload", {a, none, transposed}), -5));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->id, -5);
  EXPECT_EQ(decoded->message.type, MessageType::kPythonCall);
  EXPECT_EQ(decoded->message.payload, "payload");
  const std::vector<Tensor>& tensors = decoded->message.tensors;
  ASSERT_EQ(tensors.size(), 3u);
  EXPECT_EQ(Elements(tensors[0]), Elements(a));
  EXPECT_EQ(tensors[1].sizes, none.sizes);
  EXPECT_EQ(tensors[1].dtype, DType::kInt64);
  EXPECT_EQ(Elements(tensors[2]), Elements(transposed));
  EXPECT_TRUE(tensors[2].requires_grad);
  EXPECT_EQ(tensors[0].storage, tensors[2].storage);
  EXPECT_NE(tensors[0].storage, a.storage);
}

TEST(EncodeTest, EveryTypeAndAnEmptyPayloadTravel) {
  for (int32_t type : {0x100, 0x237, 0x3c, -1}) {
    auto decoded =
        Transfer(*MustEncode({static_cast<MessageType>(type), "", {}}));
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(static_cast<int32_t>(decoded->message.type), type);
    EXPECT_EQ(decoded->message.payload, "");
  }
}

// Row 53: a small view of a large storage.
TEST(EncodeTest, CopiesSmallViewsOfLargeStorages) {
  const Tensor large = Iota({100, 100});
  const Tensor small = View(large, {2, 2}, {100, 1}, 505);
  const Encoded encoded = MustEncode(Request("", {small, large}));
  ASSERT_EQ(encoded->tensors().size(), 2u);
  EXPECT_EQ(encoded->tensors()[0].storage->num_bytes(), 16u);
  EXPECT_EQ(encoded->tensors()[1].storage, large.storage);
  auto decoded = Transfer(*encoded);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(Elements(decoded->message.tensors[0]),
            std::vector<float>({505, 506, 605, 606}));
}

// Row 53: memory that may be gone before the message is written.
TEST(EncodeTest, CopiesBorrowedMemoryOnce) {
  std::vector<float> numbers = {1, 2, 3, 4};
  Tensor tensor = Iota({1, 4});
  tensor.storage = BorrowCpu(numbers.data(), 16);
  const Encoded encoded =
      MustEncode(Request("", {tensor, View(tensor, {1, 2}, {2, 1}, 2)}));
  numbers = {9, 9, 9, 9};
  ASSERT_EQ(encoded->tensors().size(), 1u);
  auto decoded = Transfer(*encoded);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(Elements(decoded->message.tensors[0]),
            std::vector<float>({1, 2, 3, 4}));
  EXPECT_EQ(Elements(decoded->message.tensors[1]), std::vector<float>({3, 4}));
}

// Defect 18: what a storage is on decides where it goes, once.
TEST(EncodeTest, TargetsFollowTheStorage) {
  const Tensor a = Iota({2});
  const Tensor b = Iota({3});
  const DeviceMap map = {{CpuDevice(), GpuDevice(1)}};
  auto encoded =
      Encode(Request("", {a, a, b}), 1, {}, {.map = &map, .peer = "w1"});
  ASSERT_TRUE(encoded.ok()) << encoded.status();
  const tensorpipe::Message message = ToTensorPipe(**encoded);
  ASSERT_EQ(message.tensors.size(), 2u);
  EXPECT_EQ(message.tensors[0].targetDevice->toString(), "cuda:1");
  EXPECT_EQ(message.tensors[1].targetDevice->toString(), "cuda:1");
  EXPECT_EQ((*encoded)->way_back(), (DeviceMap{{GpuDevice(1), CpuDevice()}}));
  EXPECT_FALSE((*encoded)->needs_no_gpus());
}

TEST(EncodeTest, RefusesWhatCannotBeSent) {
  EXPECT_FALSE(Encode(Request("", {Tensor()}), 1).ok());
  EXPECT_FALSE(Encode(Request("", {View(Iota({2}), {3}, {1}, 0)}), 1).ok());
  Tensor strange = Iota({1});
  strange.storage = std::make_shared<StrangeStorage>();
  const absl::Status status = Encode(Request("", {strange}), 1).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(
      status.message(),
      "TensorPipe RPC backend only supports CPU tensors by default, "
      "please move your tensors to CPU before sending them over RPC, or "
      "call `set_device_map` on `TensorPipeRpcBackendOptions` to "
      "explicitly configure device mapping. Request device mapping is not "
      "available for destination , but found tensor on device: cuda:0");
  // A map alone makes no GPU of it.
  const DeviceMap map = {{GpuDevice(0), GpuDevice(0)}};
  EXPECT_EQ(
      Encode(Request("", {strange}), 1, {}, {.map = &map}).status().code(),
      absl::StatusCode::kInvalidArgument);
}

TEST(EncodeTest, HasLimits) {
  const auto code = [](Message message, WireLimits limits) {
    return Encode(std::move(message), 1, limits).status().code();
  };
  constexpr auto kTooLarge = absl::StatusCode::kResourceExhausted;
  const Message tensors = Request("1234", {Iota({2}), Iota({2})});
  EXPECT_EQ(code(tensors, {}), absl::StatusCode::kOk);
  EXPECT_EQ(code(tensors, {.max_payload_bytes = 3}), kTooLarge);
  EXPECT_EQ(code(tensors, {.max_pickle_bytes = 47}), kTooLarge);
  EXPECT_EQ(code(tensors, {.max_tensors = 1}), kTooLarge);
  EXPECT_EQ(code(tensors, {.max_tensor_bytes = 15}), kTooLarge);
  EXPECT_EQ(code(tensors, {.max_tensor_bytes = 16}), absl::StatusCode::kOk);
}

TEST(WithIdTest, SharesAllButTheId) {
  Encoded first = MustEncode(Request("payload", {Iota({2})}), 1);
  const void* const payload = ToTensorPipe(*first).payloads[2].data;
  const Encoded second = WithId(first, 2);
  const Encoded third = WithId(second, 3);
  EXPECT_EQ(first->id(), 1);
  first.reset();
  const tensorpipe::Message message = ToTensorPipe(*third);
  EXPECT_EQ(message.payloads[2].data, payload);
  EXPECT_EQ(third->num_bytes(), second->num_bytes());
  auto decoded = Transfer(*third);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->id, 3);
  EXPECT_EQ(decoded->message.payload, "payload");
  EXPECT_EQ(decoded->message.tensors.size(), 1u);
}

class AllocateTest : public testing::Test {
 protected:
  AllocateTest() {
    encoded_ = MustEncode(Request("payload", {Iota({2})}), 42);
    message_ = ToTensorPipe(*encoded_);
    descriptor_ = DescriptorOf(message_);
  }

  absl::StatusCode Code(WireLimits limits = {}) {
    return IncomingMessage::Allocate(descriptor_, limits).status().code();
  }

  static constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  static constexpr auto kTooLarge = absl::StatusCode::kResourceExhausted;

  Encoded encoded_;
  tensorpipe::Message message_;
  tensorpipe::Descriptor descriptor_;
};

TEST_F(AllocateTest, TakesWhatWeSend) {
  EXPECT_EQ(Code(), absl::StatusCode::kOk);
  // PyTorch before 1.9 had metadata; without a target we choose.
  descriptor_.metadata = "m";
  descriptor_.payloads[0].metadata = "m";
  descriptor_.tensors[0].metadata = "m";
  descriptor_.tensors[0].targetDevice.reset();
  EXPECT_EQ(Code(), absl::StatusCode::kOk);
}

TEST(DecodeTest, APayloadIsReceivedWhereItStays) {
  for (const size_t size : {size_t{1000}, (size_t{1} << 20) - 1,
                            size_t{1} << 20, size_t{3} << 20}) {
    const Encoded encoded = MustEncode(Request(std::string(size, 'x')));
    const tensorpipe::Message message = ToTensorPipe(*encoded);
    auto incoming = IncomingMessage::Allocate(DescriptorOf(message));
    ASSERT_TRUE(incoming.ok()) << incoming.status();
    const tensorpipe::Allocation allocation = incoming->allocation();
    Carry(message, allocation);
    const auto decoded = std::move(*incoming).Decode();
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(decoded->message.payload, std::string(size, 'x'));
    EXPECT_TRUE(decoded->message.payload.data() == allocation.payloads[2].data)
        << size;
  }
}

TEST(DecodeTest, AnAllocatorGivesTheMemoryOfTensors) {
  struct Recording final : CpuAllocator {
    absl::StatusOr<std::shared_ptr<Storage>> Allocate(size_t size) override {
      auto storage = AllocateCpu(size);
      given.push_back(*storage);
      return storage;
    }
    std::vector<std::shared_ptr<Storage>> given;
  } allocator;
  const Encoded encoded = MustEncode(Request("", {Iota({2, 3}), Iota({4})}));
  const tensorpipe::Message message = ToTensorPipe(*encoded);
  WireLimits limits;
  limits.allocator = &allocator;
  auto incoming = IncomingMessage::Allocate(DescriptorOf(message), limits);
  ASSERT_TRUE(incoming.ok()) << incoming.status();
  Carry(message, incoming->allocation());
  const auto decoded = std::move(*incoming).Decode();
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  ASSERT_EQ(allocator.given.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(decoded->message.tensors[i].storage, allocator.given[i]);
  }
}

TEST_F(AllocateTest, RefusesOtherPayloads) {
  const tensorpipe::Descriptor good = descriptor_;
  descriptor_.payloads.pop_back();
  EXPECT_EQ(Code(), kInvalid);
  descriptor_.payloads.clear();
  EXPECT_EQ(Code(), kInvalid);
  descriptor_ = good;
  descriptor_.payloads.push_back({});
  EXPECT_EQ(Code(), kInvalid);
  for (size_t length : {0, 3, 5, 8}) {
    descriptor_ = good;
    descriptor_.payloads[0].length = length;
    EXPECT_EQ(Code(), kInvalid) << length;
  }
  for (size_t length : {0, 4, 7, 9}) {
    descriptor_ = good;
    descriptor_.payloads[1].length = length;
    EXPECT_EQ(Code(), kInvalid) << length;
  }
}

TEST_F(AllocateTest, RefusesUnknownDevices) {
  const tensorpipe::Descriptor good = descriptor_;
  for (const tensorpipe::Device& device :
       {tensorpipe::Device("cuda", 0), tensorpipe::Device("cpu", 1),
        tensorpipe::Device("", 0), tensorpipe::Device("c\npu", -7)}) {
    descriptor_ = good;
    descriptor_.tensors[0].targetDevice = device;
    EXPECT_EQ(Code(), kInvalid) << device.toString();
    descriptor_ = good;
    descriptor_.tensors[0].sourceDevice = device;
    EXPECT_EQ(Code(), kInvalid) << device.toString();
  }
}

TEST_F(AllocateTest, WhatIsBeyondTheLimitsIsThrownAway) {
  const auto is_refused = [&](WireLimits limits) {
    auto message = IncomingMessage::Allocate(descriptor_, limits);
    EXPECT_TRUE(message.ok()) << message.status();
    if (!message.ok()) return false;
    const absl::Status status = std::move(*message).Decode().status();
    EXPECT_EQ(status.code(), kTooLarge);
    return IsTooLarge(status);
  };
  EXPECT_TRUE(is_refused({.max_payload_bytes = 6}));
  EXPECT_TRUE(is_refused({.max_pickle_bytes = 100}));
  EXPECT_TRUE(is_refused({.max_tensors = 0}));
  EXPECT_TRUE(is_refused({.max_tensor_bytes = 7}));
  descriptor_.tensors.push_back(descriptor_.tensors[0]);
  EXPECT_TRUE(is_refused({.max_tensor_bytes = 15}));
  descriptor_.metadata = std::string(10'000, 'm');
  EXPECT_TRUE(is_refused({}));
  EXPECT_FALSE(IsTooLarge(absl::ResourceExhaustedError("too many calls")));
}

TEST_F(AllocateTest, WhatIsThrownAwayTakesNoMemory) {
  constexpr size_t kClaimed = size_t{1} << 30;
  descriptor_.payloads[2].length = kClaimed;
  descriptor_.tensors[0].length = kClaimed;
  const size_t before = ResidentBytes();
  auto message =
      IncomingMessage::Allocate(descriptor_, {.max_payload_bytes = 100});
  ASSERT_TRUE(message.ok()) << message.status();
  EXPECT_GT(message->num_bytes(), 2 * kClaimed);
  const tensorpipe::Allocation allocation = message->allocation();
  auto* const payload = static_cast<char*>(allocation.payloads[2].data);
  char* const tensor = static_cast<char*>(
      allocation.tensors[0].buffer.unwrap<tensorpipe::CpuBuffer>().ptr);
  for (size_t i = 0; i < kClaimed; i += size_t{1} << 20) {
    payload[i] = 1;
    tensor[i] = 1;
  }
  payload[kClaimed - 1] = 1;
  tensor[kClaimed - 1] = 1;
  EXPECT_LT(ResidentBytes(), before + kClaimed / 16);
}

TEST_F(AllocateTest, HasLimits) {
  EXPECT_EQ(Code({.max_payload_bytes = 7}), absl::StatusCode::kOk);
  EXPECT_EQ(Code({.max_tensor_bytes = 8}), absl::StatusCode::kOk);
  // Impossible lengths are not even skipped, also when their sum wraps around.
  descriptor_.payloads[2].length = ~size_t{0};
  EXPECT_EQ(Code(), kTooLarge);
  descriptor_.payloads[2].length = 7;
  descriptor_.payloads[3].length = ~size_t{0};
  EXPECT_EQ(Code(), kTooLarge);
  descriptor_.payloads[3].length = 47;
  descriptor_.tensors.push_back(descriptor_.tensors[0]);
  EXPECT_EQ(Code({.max_tensor_bytes = 16}), absl::StatusCode::kOk);
  descriptor_.tensors[1].length = ~size_t{0} - 3;
  EXPECT_EQ(Code(), kTooLarge);
}

TEST_F(AllocateTest, WhatDoesNotComeTakesNoMemory) {
  constexpr size_t kClaimed = size_t{64} << 20;
  for (const size_t i : {2, 3}) descriptor_.payloads[i].length = kClaimed;
  descriptor_.tensors[0].length = kClaimed;
  const size_t before = ResidentBytes();
  std::vector<IncomingMessage> incoming;
  for (int i = 0; i < 8; ++i) {
    auto message = IncomingMessage::Allocate(descriptor_);
    ASSERT_TRUE(message.ok()) << message.status();
    incoming.push_back(*std::move(message));
  }
  EXPECT_LT(ResidentBytes(), before + 4 * kClaimed);  // of 24
}

TEST_F(AllocateTest, AnUnreadablePickleStillHasAnId) {
  auto incoming = IncomingMessage::Allocate(descriptor_);
  ASSERT_TRUE(incoming.ok()) << incoming.status();
  const tensorpipe::Allocation allocation = incoming->allocation();
  Carry(message_, allocation);
  std::memset(allocation.payloads[3].data, 'x', 10);
  auto decoded = std::move(*incoming).Decode();
  EXPECT_EQ(decoded.status().code(), kInvalid);
  EXPECT_EQ(incoming->id(), 42);
  EXPECT_EQ(incoming->type(), MessageType::kPythonCall);
}

TEST_F(AllocateTest, AStorageThatIsTooShortIsAnError) {
  descriptor_.tensors[0].length = 4;
  auto incoming = IncomingMessage::Allocate(descriptor_);
  ASSERT_TRUE(incoming.ok()) << incoming.status();
  message_.tensors[0].length = 4;
  Carry(message_, incoming->allocation());
  EXPECT_EQ(std::move(*incoming).Decode().status().code(), kInvalid);
  EXPECT_EQ(incoming->id(), 42);
}

}  // namespace
}  // namespace reprise

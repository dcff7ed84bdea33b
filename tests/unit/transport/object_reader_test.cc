// What is said of itself by a peer: TensorPipe must not see what is not so.

#include "agent/transport/object_reader.h"

#include <functional>
#include <random>
#include <string>

#include "agent/transport/uv/first_frames.h"
#include "gtest/gtest.h"
#include "tensorpipe/channel/mpt/nop_types.h"
#include "tensorpipe/common/nop.h"
#include "tensorpipe/core/nop_types.h"
#include "tests/unit/transport/greetings.h"
#include "tests/unit/transport/private_object.h"

namespace reprise {
namespace {

using tensorpipe::Brochure;
using tensorpipe::BrochureAnswer;
using tensorpipe::Descriptor;
using tensorpipe::Device;
using tensorpipe::NopHolder;
using tensorpipe::channel::mpt::ServerHello;
using LaneHello = tensorpipe::channel::mpt::Packet;

template <typename T>
std::string Body(const NopHolder<T>& holder) {
  std::string body(holder.getSize(), '\0');
  tensorpipe::NopWriter writer(reinterpret_cast<uint8_t*>(body.data()),
                               body.size());
  EXPECT_TRUE(static_cast<bool>(holder.write(writer)));
  return body;
}

class ObjectReaderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    TransportOptions options;
    options.transports = {"uv"};
    options.channels = {"basic", "mpt_uv"};
    options.bind_address = "127.0.0.1";
    absl::StatusOr<TransportSet> made = RealTransports().Make(options);
    ASSERT_TRUE(made.ok()) << made.status();
    set_ = *std::move(made);
    check_.SetUp(set_);
  }

  template <typename T>
  bool Reads(const std::string& body, bool is_caller = true) {
    NopHolder<T> holder;
    return ReadObject(body, {transport_, is_caller}, check_, holder).empty();
  }
  // Of what is said by one who has the same, once `change` was made to it.
  bool TakesBrochure(const std::function<void(Brochure&)>& change) {
    NopHolder<Brochure> holder;
    Brochure& brochure = holder.getObject();
    brochure.transportDomainDescriptors["uv"] = "uv:*";
    brochure.channelDeviceDescriptors["basic"] = Devices("basic");
    change(brochure);
    return Reads<Brochure>(Body(holder), false);
  }
  bool TakesAnswer(const std::function<void(BrochureAnswer&)>& change) {
    NopHolder<BrochureAnswer> holder;
    BrochureAnswer& answer = holder.getObject();
    answer.transport = "uv";
    answer.address = "127.0.0.1:5000";
    answer.transportDomainDescriptor = "uv:*";
    answer.transportRegistrationIds = {{1, 7}};
    answer.channelRegistrationIds = {{"basic", {8}}};
    answer.channelDeviceDescriptors["basic"] = Devices("basic");
    answer.channelForDevicePair[{memory_, memory_}] = "basic";
    change(answer);
    return Reads<BrochureAnswer>(Body(holder));
  }

  std::unordered_map<Device, std::string> Devices(const std::string& channel) {
    for (const ChannelEntry& entry : set_.channels) {
      if (entry.name == channel) return entry.context->deviceDescriptors();
    }
    return {};
  }

  const Device memory_{tensorpipe::kCpuDeviceType, 0};
  const std::string transport_ = "uv";
  TransportSet set_;
  PeerCheck check_;
};

TEST_F(ObjectReaderTest, ABrochureOffersWhatWeHave) {
  EXPECT_TRUE(TakesBrochure([](Brochure&) {}));
  EXPECT_TRUE(TakesBrochure([](Brochure& b) {
    b.transportDomainDescriptors["pigeon"] = "coo";
    b.channelDeviceDescriptors["hearsay"];
  }));
  EXPECT_FALSE(
      TakesBrochure([](Brochure& b) { b.transportDomainDescriptors.clear(); }));
  EXPECT_FALSE(TakesBrochure(
      [](Brochure& b) { b.transportDomainDescriptors["uv"] = "other"; }));
  // To send it a tensor would throw.
  EXPECT_FALSE(
      TakesBrochure([](Brochure& b) { b.channelDeviceDescriptors.clear(); }));
  EXPECT_FALSE(TakesBrochure(
      [](Brochure& b) { b.channelDeviceDescriptors["basic"].clear(); }));
  EXPECT_FALSE(TakesBrochure([this](Brochure& b) {
    b.channelDeviceDescriptors["basic"][memory_] = "elsewhere";
  }));
}

TEST_F(ObjectReaderTest, AnAnswerIsWhatWeWouldHaveChosen) {
  using Answer = BrochureAnswer;
  EXPECT_TRUE(TakesAnswer([](Answer&) {}));
  EXPECT_FALSE(TakesAnswer([](Answer& a) { a.transport = "pigeon"; }));
  EXPECT_FALSE(TakesAnswer([](Answer& a) { a.address = "nowhere"; }));
  EXPECT_FALSE(TakesAnswer([](Answer& a) { a.address = "127.0.0.1:99999"; }));
  EXPECT_FALSE(
      TakesAnswer([](Answer& a) { a.transportDomainDescriptor = "other"; }));
  EXPECT_FALSE(TakesAnswer([](Answer& a) {
    a.transportRegistrationIds = {{0, 7}};
  }));
  EXPECT_FALSE(
      TakesAnswer([](Answer& a) { a.channelRegistrationIds.clear(); }));
  EXPECT_FALSE(
      TakesAnswer([](Answer& a) { a.channelRegistrationIds["basic"] = {}; }));
  EXPECT_FALSE(
      TakesAnswer([](Answer& a) { a.channelDeviceDescriptors.clear(); }));
  EXPECT_FALSE(TakesAnswer([](Answer& a) { a.channelForDevicePair.clear(); }));
  EXPECT_FALSE(TakesAnswer([this](Answer& a) {
    a.channelForDevicePair[{memory_, memory_}] = "mpt_uv";
  }));
  EXPECT_FALSE(TakesAnswer([this](Answer& a) {
    a.channelForDevicePair[{memory_, Device("cuda", 0)}] = "basic";
  }));
}

TEST_F(ObjectReaderTest, LanesAreAsManyAsOursAndHaveAddresses) {
  const auto takes = [this](size_t count, const std::string& address) {
    NopHolder<LaneHello> holder;
    ServerHello hello;
    for (size_t i = 0; i < count; ++i) {
      hello.laneAdvertisements.emplace_back();
      hello.laneAdvertisements.back().address = address;
      hello.laneAdvertisements.back().registrationId = i;
    }
    holder.getObject() = hello;
    return Reads<LaneHello>(Body(holder));
  };
  EXPECT_TRUE(takes(kMptUvLanes, "127.0.0.1:1"));
  EXPECT_FALSE(takes(kMptUvLanes - 1, "127.0.0.1:1"));
  EXPECT_FALSE(takes(kMptUvLanes + 1, "127.0.0.1:1"));
  EXPECT_FALSE(takes(kMptUvLanes, "lane"));
  EXPECT_FALSE(takes(kMptUvLanes, "127.0.0.1:99999999999999999999"));
  // The other end's part.
  const std::string client = testing::LaneHelloFrame(1).substr(kFrameHeader);
  EXPECT_TRUE(Reads<LaneHello>(client, false));
  EXPECT_FALSE(Reads<LaneHello>(client, true));
}

TEST_F(ObjectReaderTest, AnObjectFillsItsFrame) {
  NopHolder<Descriptor> holder;
  Descriptor& descriptor = holder.getObject();
  descriptor.metadata = "metadata";
  descriptor.payloads = {{3, "payload"}};
  descriptor.tensors.resize(2);
  descriptor.tensors[0].sourceDevice = memory_;
  descriptor.tensors[1].sourceDevice = memory_;
  const std::string body = Body(holder);
  EXPECT_TRUE(Reads<Descriptor>(body));
  EXPECT_FALSE(Reads<Descriptor>(body + "!"));
  for (size_t size = 0; size < body.size(); ++size) {
    EXPECT_FALSE(Reads<Descriptor>(body.substr(0, size))) << size;
  }
  std::mt19937 random(11);
  for (int i = 0; i < 20'000; ++i) {
    std::string noise = body;
    noise[random() % noise.size()] = static_cast<char>(random());
    Reads<Descriptor>(noise);  // AddressSanitizer looks on
  }
}

// As the channel cma has it.
struct Private {
  uint32_t pid;
  uint64_t pointer;
  NOP_STRUCTURE(Private, pid, pointer);
};

TEST_F(ObjectReaderTest, WhatItDoesNotKnowIsReadWithinBoundsToo) {
  NopHolder<Private> holder;
  holder.getObject() = {77, ~uint64_t{0}};
  const std::string body = Body(holder);
  NopHolder<Private> read;
  EXPECT_EQ(ReadObject(body, {transport_, true}, check_, read), "");
  EXPECT_EQ(read.getObject().pid, 77u);
  EXPECT_FALSE(Reads<Private>(body + '\0'));
  for (size_t size = 0; size < body.size(); ++size) {
    EXPECT_FALSE(Reads<Private>(body.substr(0, size))) << size;
  }
  EXPECT_FALSE(Reads<Private>(std::string(10, '\xff')));
}

TEST_F(ObjectReaderTest, StringsThatItDoesNotKnowAreReadWithinBounds) {
  using testing::PrivateObject;
  PrivateObject object = testing::FilledPrivateObject();
  EXPECT_TRUE(Reads<PrivateObject>(testing::Encoded(object)));
  EXPECT_FALSE(Reads<PrivateObject>(testing::kOverrun));
  // The time that hash maps take is bounded by the length.
  object.memory->memory.resize(60'000);
  EXPECT_TRUE(Reads<PrivateObject>(testing::Encoded(object)));
  object.memory->memory.resize(66'000);
  EXPECT_FALSE(Reads<PrivateObject>(testing::Encoded(object)));
}

TEST_F(ObjectReaderTest, ANumberIsClaimedOnceAndOverItsTransport) {
  BrochureAnswer answer;
  answer.transport = "uv";
  answer.transportRegistrationIds = {{0, 3}, {1, 4}};
  answer.channelRegistrationIds = {{"basic", {5, 6}}};
  check_.HandOut(answer);
  const auto claims = [this](uint64_t number, const std::string& transport) {
    tensorpipe::Packet hello;
    hello = tensorpipe::RequestedConnection{number};
    check_.Claim(transport, hello);
    return hello.get<tensorpipe::RequestedConnection>()->registrationId ==
           number;
  };
  EXPECT_FALSE(claims(2, "uv"));
  EXPECT_FALSE(claims(3, "shm"));
  for (const uint64_t number : {3, 4, 5, 6}) {
    EXPECT_TRUE(claims(number, "uv")) << number;
    EXPECT_FALSE(claims(number, "uv")) << number;
  }
  // Those that nobody comes for are forgotten in the end, the oldest first.
  answer.channelRegistrationIds.clear();
  for (uint64_t number = 100; number < 70'000; number += 2) {
    answer.transportRegistrationIds = {{0, number}, {1, number + 1}};
    check_.HandOut(answer);
  }
  EXPECT_FALSE(claims(100, "uv"));
  EXPECT_TRUE(claims(69'000, "uv"));
}

}  // namespace
}  // namespace reprise

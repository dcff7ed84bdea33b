#include "tests/unit/transport/greetings.h"

#include <array>  // nop needs it

#include "tensorpipe/channel/mpt/nop_types.h"
#include "tensorpipe/common/nop.h"
#include "tensorpipe/core/nop_types.h"

namespace reprise::testing {
namespace {

template <typename T>
std::string Encode(const tensorpipe::NopHolder<T>& holder) {
  std::string body(holder.getSize(), '\0');
  tensorpipe::NopWriter writer(reinterpret_cast<uint8_t*>(body.data()),
                               body.size());
  holder.write(writer);
  return Frame(body);
}

}  // namespace

std::string Frame(const std::string& body) {
  std::string frame;
  for (int i = 0; i < 8; ++i) {
    frame += static_cast<char>(uint64_t{body.size()} >> (8 * i));
  }
  return frame + body;
}

std::string PipeHelloFrame(const std::string& name) {
  tensorpipe::NopHolder<tensorpipe::Packet> hello;
  hello.getObject() = tensorpipe::SpontaneousConnection{name};
  return Encode(hello);
}

std::string RequestedHelloFrame(uint64_t id) {
  tensorpipe::NopHolder<tensorpipe::Packet> hello;
  hello.getObject() = tensorpipe::RequestedConnection{id};
  return Encode(hello);
}

std::string LaneHelloFrame(uint64_t id) {
  tensorpipe::NopHolder<tensorpipe::channel::mpt::Packet> hello;
  hello.getObject() = tensorpipe::channel::mpt::ClientHello{id};
  return Encode(hello);
}

std::string BrochureFrame(const std::map<std::string, std::string>& domains) {
  tensorpipe::NopHolder<tensorpipe::Brochure> holder;
  tensorpipe::Brochure& brochure = holder.getObject();
  brochure.transportDomainDescriptors.insert(domains.begin(), domains.end());
  brochure.channelDeviceDescriptors["basic"] = {
      {tensorpipe::Device{tensorpipe::kCpuDeviceType, 0}, "any"}};
  return Encode(holder);
}

std::string BrochureAnswerFrame() {
  tensorpipe::NopHolder<tensorpipe::BrochureAnswer> holder;
  tensorpipe::BrochureAnswer& answer = holder.getObject();
  const tensorpipe::Device cpu{tensorpipe::kCpuDeviceType, 0};
  answer.transport = "uv";
  answer.address = "127.0.0.1:1";
  answer.transportRegistrationIds = {{1, 2}};
  answer.transportDomainDescriptor = "uv:*";
  answer.channelRegistrationIds = {{"basic", {3}}};
  answer.channelDeviceDescriptors["basic"] = {{cpu, "any"}};
  answer.channelForDevicePair[{cpu, cpu}] = "basic";
  return Encode(holder);
}

}  // namespace reprise::testing

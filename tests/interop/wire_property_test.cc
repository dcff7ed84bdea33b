// Random messages between our codec and PyTorch's own, without a network: what
// one writes, the other reads, and all that was sent is there.
//
// `wire_property_test --messages=N` tries N of them in each direction, and
// `--dump=FOLDER` writes what PyTorch makes of some messages into files, for
// tests/fuzz/make_corpus.py.

// Clang needs all of ivalue.h, of which the others only declare types.
#include <ATen/core/ivalue.h>
#include <torch/csrc/distributed/rpc/message.h>
#include <torch/csrc/distributed/rpc/tensorpipe_utils.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/wire/message_codec.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/interop/message_spec.h"
#include "tests/interop/our_tensors.h"
#include "tests/interop/stock_tensors.h"
#include "tests/unit/wire/wire_testing.h"

namespace reprise::interop {
namespace {

namespace rpc = torch::distributed::rpc;
using ::testing::HasSubstr;

int messages = 1000;

// Any value of a type is carried, for which there is no meaning too.
constexpr std::array<int32_t, 6> kTypes = {0x100, 0x201, 0x102,
                                           0x203, 0x237, 0x1fe};

// A message of which everything is random, by its seed.
struct RandomMessage {
  explicit RandomMessage(uint64_t seed)
      : tensors(MakeMessage("random " + std::to_string(seed))) {
    Random random(~seed);
    type = kTypes[random.Below(kTypes.size())];
    id = static_cast<int64_t>(random.Next());
    constexpr std::array<size_t, 4> kLongest = {1, 30, 1000, 70000};
    payload = BytesOf(tensors.name,
                      random.Below(kLongest[random.Below(kLongest.size())]));
  }

  int32_t type;
  int64_t id;
  std::string payload;
  MessageSpec tensors;
};

class Counts {
 public:
  void Add(const Comparison& comparison, const RandomMessage& message) {
    EXPECT_EQ(comparison.problem, "");
    tensors_ += message.tensors.tensors.size();
    bytes_ += comparison.bytes + message.payload.size();
    different_ += comparison.different;
  }
  ~Counts() {
    std::printf("%d messages, %llu tensors, %llu bytes, %llu different\n",
                messages, tensors_, bytes_, different_);
    // The generator makes tensors, and with elements.
    EXPECT_GT(tensors_, 2ull * messages);
    EXPECT_GT(bytes_, 100ull * messages);
  }

 private:
  unsigned long long tensors_ = 0;
  unsigned long long bytes_ = 0;
  unsigned long long different_ = 0;
};

// As a pipe would carry it to PyTorch's reader.
c10::intrusive_ptr<rpc::Message> ReadAsStock(const tensorpipe::Message& sent) {
  tensorpipe::Descriptor descriptor = DescriptorOf(sent);
  auto [allocation, buffers] = rpc::tensorpipeAllocate(descriptor, {});
  Carry(sent, allocation);
  return rpc::tensorpipeDeserialize(std::move(descriptor), std::move(buffers));
}

absl::StatusOr<DecodedMessage> ReadAsOurs(const tensorpipe::Message& sent) {
  auto incoming = IncomingMessage::Allocate(DescriptorOf(sent));
  if (!incoming.ok()) return incoming.status();
  Carry(sent, incoming->allocation());
  return std::move(*incoming).Decode();
}

TEST(WirePropertyTest, PyTorchReadsWhatWeWrite) {
  Counts counts;
  for (int seed = 0; seed < messages; ++seed) {
    SCOPED_TRACE(seed);
    const RandomMessage message(seed);
    const auto encoded =
        Encode({static_cast<MessageType>(message.type), message.payload,
                MakeOurTensors(message.tensors)},
               message.id);
    ASSERT_TRUE(encoded.ok()) << encoded.status();
    const auto read = ReadAsStock(ToTensorPipe(**encoded));
    ASSERT_EQ(static_cast<int32_t>(read->type()), message.type);
    ASSERT_EQ(read->id(), message.id);
    ASSERT_EQ(std::string(read->payload().begin(), read->payload().end()),
              message.payload);
    counts.Add(Compare(message.tensors, ViewStockTensors(read->tensors())),
               message);
    if (HasFailure()) return;
  }
}

TEST(WirePropertyTest, WeReadWhatPyTorchWrites) {
  Counts counts;
  for (int seed = 0; seed < messages; ++seed) {
    SCOPED_TRACE(seed);
    const RandomMessage message(seed);
    auto stock = c10::make_intrusive<rpc::Message>(
        std::vector<char>(message.payload.begin(), message.payload.end()),
        MakeStockTensors(message.tensors),
        static_cast<rpc::MessageType>(message.type));
    stock->setId(message.id);
    const auto [written, buffers] =
        rpc::tensorpipeSerialize(std::move(stock), {}, {});
    const auto read = ReadAsOurs(written);
    ASSERT_TRUE(read.ok()) << read.status();
    ASSERT_EQ(static_cast<int32_t>(read->message.type), message.type);
    ASSERT_EQ(read->id, message.id);
    ASSERT_EQ(read->message.payload, message.payload);
    counts.Add(Compare(message.tensors, ViewOurTensors(read->message.tensors)),
               message);
    if (HasFailure()) return;
  }
}

// Without a tensor that a copy is sent of, both write the same bytes: the
// pickle, and the storages in the same order.
TEST(WirePropertyTest, BothWriteTheSameBytes) {
  int same = 0;
  for (int seed = 0; seed < messages; ++seed) {
    SCOPED_TRACE(seed);
    const RandomMessage message(seed);
    const auto ours = Encode({static_cast<MessageType>(message.type),
                              message.payload, MakeOurTensors(message.tensors)},
                             message.id);
    ASSERT_TRUE(ours.ok()) << ours.status();
    auto stock = c10::make_intrusive<rpc::Message>(
        std::vector<char>(message.payload.begin(), message.payload.end()),
        MakeStockTensors(message.tensors),
        static_cast<rpc::MessageType>(message.type));
    stock->setId(message.id);
    const auto [written, buffers] =
        rpc::tensorpipeSerialize(std::move(stock), {}, {});
    const tensorpipe::Message carried = ToTensorPipe(**ours);
    ASSERT_EQ(carried.payloads.size(), written.payloads.size());
    bool is_same = carried.tensors.size() == written.tensors.size();
    for (size_t i = 0; i < carried.payloads.size(); ++i) {
      const auto text = [](const tensorpipe::Message::Payload& payload) {
        return std::string_view(static_cast<const char*>(payload.data),
                                payload.length);
      };
      is_same =
          is_same && text(carried.payloads[i]) == text(written.payloads[i]);
    }
    for (size_t i = 0; is_same && i < carried.tensors.size(); ++i) {
      const size_t length = carried.tensors[i].length;
      ASSERT_EQ(length, written.tensors[i].length);
      ASSERT_TRUE(length == 0 ||
                  std::memcmp(Pointer(carried.tensors[i].buffer),
                              Pointer(written.tensors[i].buffer), length) == 0);
    }
    same += is_same ? 1 : 0;
  }
  std::printf("%d of %d are the same bytes\n", same, messages);
  EXPECT_GT(same, messages / 2);
}

// A pickled storage has one type, so that one which tensors of two types view
// is sent once for each. (PyTorch's own writer, of 1.13.1 and of 2.15.0, writes
// it once, and the second tensor is read as one of the first one's type.)
TEST(WirePropertyTest, OneStorageOfTwoTypesIsReadRight) {
  MessageSpec message = MakeMessage("bytes 64");
  TensorSpec floats = message.tensors[0];
  floats.type = 6;
  floats.sizes = {16};
  message.tensors.insert(message.tensors.begin(), floats);
  const auto encoded =
      Encode({MessageType::kScriptCall, "", MakeOurTensors(message)}, /*id=*/1);
  ASSERT_TRUE(encoded.ok()) << encoded.status();
  EXPECT_EQ((*encoded)->tensors().size(), 2u);
  const auto read = ReadAsStock(ToTensorPipe(**encoded));
  const Comparison comparison =
      Compare(message, ViewStockTensors(read->tensors()));
  EXPECT_EQ(comparison.bytes, 2u * 64);
  EXPECT_EQ(comparison.different, 0u);
  EXPECT_THAT(comparison.problem, HasSubstr("shares no storage"));
}

// Payloads and tensors, each after its length.
void Dump(const std::string& path, const MessageSpec& message) {
  auto stock = c10::make_intrusive<rpc::Message>(std::vector<char>{'x'},
                                                 MakeStockTensors(message),
                                                 rpc::MessageType::SCRIPT_CALL);
  const auto [written, buffers] =
      rpc::tensorpipeSerialize(std::move(stock), {}, {});
  std::ofstream file(path, std::ios::binary);
  const auto write = [&](const void* data, uint64_t length) {
    file.write(reinterpret_cast<const char*>(&length), sizeof(length));
    file.write(static_cast<const char*>(data),
               static_cast<std::streamsize>(length));
  };
  for (const auto& payload : written.payloads) {
    write(payload.data, payload.length);
  }
  for (const auto& tensor : written.tensors) {
    write(Pointer(tensor.buffer), tensor.length);
  }
}

}  // namespace

int DumpSome(const std::string& folder) {
  for (const std::string name :
       {"dtypes", "empties", "none", "many 6", "random 3", "random 19"}) {
    std::string file = "libtorch_" + name;
    std::replace(file.begin(), file.end(), ' ', '_');
    Dump(folder + "/" + file, MakeMessage(name));
  }
  return 0;
}

void SetMessages(int number) { messages = number; }

}  // namespace reprise::interop

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const std::string flag = argc > 1 ? argv[1] : "";
  const std::string value =
      flag.substr(std::min(flag.find('=') + 1, flag.size()));
  if (flag.rfind("--dump=", 0) == 0) return reprise::interop::DumpSome(value);
  if (flag.rfind("--messages=", 0) == 0) {
    reprise::interop::SetMessages(std::stoi(value));
  }
  return RUN_ALL_TESTS();
}

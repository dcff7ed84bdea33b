#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/message.h"
#include "agent/wire/message_codec.h"
#include "gtest/gtest.h"
#include "tensorpipe/tensorpipe.h"
#include "tests/unit/wire/wire_testing.h"

namespace reprise {
namespace {

// One end writes, the other reads, over TCP of this machine.
class MessageOverPipeTest : public testing::Test {
 protected:
  MessageOverPipeTest() {
    for (auto* context : {&server_, &client_}) {
      context->registerTransport(0, "uv", tensorpipe::transport::uv::create());
      context->registerChannel(0, "basic",
                               tensorpipe::channel::basic::create());
    }
    listener_ = server_.listen({"uv://127.0.0.1:0"});
    std::promise<std::shared_ptr<tensorpipe::Pipe>> accepted;
    listener_->accept([&](const tensorpipe::Error& error,
                          std::shared_ptr<tensorpipe::Pipe> pipe) {
      EXPECT_FALSE(error) << error.what();
      accepted.set_value(std::move(pipe));
    });
    out_ = client_.connect(listener_->url("uv"));
    in_ = accepted.get_future().get();
  }

  ~MessageOverPipeTest() override {
    client_.join();
    server_.join();
  }

  DecodedMessage Transfer(
      const std::shared_ptr<const EncodedMessage>& encoded) {
    const absl::StatusOr<DecodedMessage> decoded = TryTransfer(encoded, {});
    EXPECT_TRUE(decoded.ok()) << decoded.status();
    return decoded.ok() ? *decoded : DecodedMessage();
  }

  absl::StatusOr<DecodedMessage> TryTransfer(
      const std::shared_ptr<const EncodedMessage>& encoded,
      const WireLimits& limits) {
    std::promise<void> written;
    std::promise<tensorpipe::Descriptor> described;
    std::promise<void> read;
    in_->readDescriptor(
        [&](const tensorpipe::Error& error, tensorpipe::Descriptor descriptor) {
          EXPECT_FALSE(error) << error.what();
          described.set_value(std::move(descriptor));
        });
    out_->write(ToTensorPipe(*encoded), [&](const tensorpipe::Error& error) {
      EXPECT_FALSE(error) << error.what();
      written.set_value();
    });
    auto incoming =
        IncomingMessage::Allocate(described.get_future().get(), limits);
    if (!incoming.ok()) {
      ADD_FAILURE() << incoming.status();
      client_.close();
      written.get_future().wait();
      return incoming.status();
    }
    in_->read(incoming->allocation(), [&](const tensorpipe::Error& error) {
      EXPECT_FALSE(error) << error.what();
      read.set_value();
    });
    read.get_future().wait();
    written.get_future().wait();
    // Whatever becomes of the rest.
    EXPECT_EQ(incoming->id(), encoded->id());
    EXPECT_EQ(incoming->type(), encoded->type());
    return std::move(*incoming).Decode();
  }

  tensorpipe::Context server_;
  tensorpipe::Context client_;
  std::shared_ptr<tensorpipe::Listener> listener_;
  std::shared_ptr<tensorpipe::Pipe> out_;
  std::shared_ptr<tensorpipe::Pipe> in_;
};

TEST_F(MessageOverPipeTest, AllKindsOfTensors) {
  const Tensor matrix = Iota({300, 70});
  const Tensor nothing = *MakeTensor(DType::kInt32, {0});
  const Tensor odd = View(Iota({7}), {1, 7}, {7, 1}, 0);
  auto encoded = *Encode(
      {MessageType::kScriptCall,
       "payload",
       {matrix, nothing, View(matrix, {70, 300}, {1, 70}, 0), nothing, odd}},
      99);
  for (int64_t id : {99, 100}) {  // a retry, too
    const DecodedMessage decoded = Transfer(WithId(encoded, id));
    EXPECT_EQ(decoded.id, id);
    EXPECT_EQ(decoded.message.payload, "payload");
    const std::vector<Tensor>& tensors = decoded.message.tensors;
    ASSERT_EQ(tensors.size(), 5u);
    EXPECT_EQ(Elements(tensors[0]), Elements(matrix));
    EXPECT_EQ(tensors[1].num_elements(), 0);
    EXPECT_EQ(tensors[2].storage, tensors[0].storage);
    EXPECT_EQ(Elements(tensors[4]), Elements(odd));
  }
}

TEST_F(MessageOverPipeTest, WhatIsTooLargeIsSkipped) {
  const auto large = *Encode({MessageType::kScriptCall,
                              std::string(3'000'000, 'x'),
                              {Iota({500, 500})}},
                             7);
  for (const WireLimits& limits :
       {WireLimits{.max_payload_bytes = 1000}, WireLimits{.max_tensors = 0},
        WireLimits{.max_tensor_bytes = 1000}}) {
    const absl::Status status = TryTransfer(large, limits).status();
    EXPECT_TRUE(IsTooLarge(status)) << status;
  }
  // The pipe is as good as before.
  EXPECT_EQ(Transfer(large).message.payload.size(), 3'000'000u);
}

TEST_F(MessageOverPipeTest, NothingAtAll) {
  const DecodedMessage decoded =
      Transfer(*Encode({MessageType::kException, "", {}}, 0));
  EXPECT_EQ(decoded.message.type, MessageType::kException);
  EXPECT_EQ(decoded.message.payload, "");
  EXPECT_TRUE(decoded.message.tensors.empty());
}

}  // namespace
}  // namespace reprise

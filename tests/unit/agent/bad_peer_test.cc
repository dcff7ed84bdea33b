// Peers say what no agent says. It costs them their connection, or gets them an
// error, and nobody else notices.

#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/agent.h"
#include "agent/transport/transports.h"
#include "agent/wire/call_extras.h"
#include "agent/wire/message_codec.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensorpipe/core/context.h"
#include "tensorpipe/core/listener.h"
#include "tensorpipe/core/pipe.h"
#include "tests/unit/agent/cluster.h"
#include "tests/unit/agent/recorder.h"

namespace reprise::testing {
namespace {

using ::testing::HasSubstr;

// TensorPipe without an agent.
class RawPeer {
 public:
  explicit RawPeer(const std::string& name)
      : context_(tensorpipe::ContextOptions().name(name)) {
    TransportOptions options;
    options.transports = {"uv"};
    options.channels = {"basic"};
    options.bind_address = "127.0.0.1";
    const TransportSet set = *RealTransports().Make(options);
    for (const TransportEntry& transport : set.transports) {
      context_.registerTransport(transport.priority, transport.name,
                                 transport.context);
      address_ = transport.name + "://" + transport.address;
    }
    for (const ChannelEntry& channel : set.channels) {
      context_.registerChannel(channel.priority, channel.name, channel.context);
    }
  }
  ~RawPeer() {
    if (pipe_ != nullptr) pipe_->close();
    context_.join();
  }

  void Connect(const std::string& url) { pipe_ = context_.connect(url); }

  // Returns the address. The next connection becomes this peer's pipe.
  std::string Listen() {
    listener_ = context_.listen({address_});
    listener_->accept([this](const tensorpipe::Error& error,
                             std::shared_ptr<tensorpipe::Pipe> pipe) {
      if (error) return;
      pipe_ = std::move(pipe);
      accepted_.Open();
    });
    return listener_->url("uv");
  }
  bool WaitForConnection() { return accepted_.Wait(); }

  // Four payloads, or as many as are given.
  void Write(std::vector<std::string> payloads, std::string metadata = "") {
    auto bytes =
        std::make_shared<std::vector<std::string>>(std::move(payloads));
    tensorpipe::Message message;
    message.metadata = std::move(metadata);
    for (std::string& payload : *bytes) {
      message.payloads.push_back({payload.data(), payload.size(), ""});
    }
    pipe_->write(std::move(message), [bytes](const tensorpipe::Error&) {});
  }

  struct Answer {
    MessageType type = MessageType::kUnknown;
    int64_t id = 0;
    std::string payload;
  };
  // Returns nullopt when the connection breaks.
  std::optional<Answer> Read() {
    Gate read;
    std::optional<Answer> answer;
    pipe_->readDescriptor([&](const tensorpipe::Error& error,
                              const tensorpipe::Descriptor& descriptor) {
      if (error) return read.Open();
      auto incoming = std::make_shared<IncomingMessage>(
          *IncomingMessage::Allocate(descriptor));
      tensorpipe::Allocation allocation = incoming->allocation();
      pipe_->read(std::move(allocation),
                  [&, incoming](const tensorpipe::Error& failed) {
                    if (!failed) {
                      answer = {incoming->type(), incoming->id(), ""};
                      answer->payload =
                          std::move(*incoming).Decode()->message.payload;
                    }
                    read.Open();
                  });
    });
    EXPECT_TRUE(read.Wait());
    return answer;
  }

 private:
  tensorpipe::Context context_;
  std::string address_;
  std::shared_ptr<tensorpipe::Listener> listener_;
  std::shared_ptr<tensorpipe::Pipe> pipe_;
  Gate accepted_;
};

std::string Bytes(int32_t value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}
std::string Bytes(int64_t value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

constexpr int32_t kCall = 0x100;
constexpr int32_t kRet = 0x201;

class BadPeerTest : public ::testing::Test {
 protected:
  void SetUp() override { cluster_.Start(2, Echo()); }

  std::string Address() {
    return *cluster_.store()->TryGet("addrs/w0", Soon());
  }
  void ExpectUnharmed() {
    EXPECT_TRUE(cluster_[1].Send("w0", Request("")).status().ok());
    EXPECT_EQ(cluster_[1].GetMetrics()["agent.reconnects"], 0);
  }

  const std::string pickle_{EmptyTensorPickle()};
  Cluster cluster_;
};

TEST_F(BadPeerTest, AGoodRequestIsAnswered) {
  RawPeer peer("stranger");
  peer.Connect(Address());
  peer.Write({Bytes(kCall), Bytes(int64_t{-5}), "hello", pickle_});
  const std::optional<RawPeer::Answer> answer = peer.Read();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->type, MessageType::kScriptRet);
  EXPECT_EQ(answer->id, -5);
  EXPECT_EQ(answer->payload, "hello");
}

TEST_F(BadPeerTest, ATensorListThatCannotBeReadIsAnsweredWithAnException) {
  RawPeer peer("stranger");
  peer.Connect(Address());
  peer.Write({Bytes(kCall), Bytes(int64_t{7}), "hello", "no pickle at all"});
  std::optional<RawPeer::Answer> answer = peer.Read();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->type, MessageType::kException);
  EXPECT_EQ(answer->id, 7);
  EXPECT_THAT(answer->payload, HasSubstr("Refused by Node 0: "));
  EXPECT_THAT(answer->payload, HasSubstr("cannot read the request"));
  // And the connection is still good.
  peer.Write({Bytes(kCall), Bytes(int64_t{8}), "", pickle_});
  answer = peer.Read();
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->type, MessageType::kScriptRet);
}

TEST_F(BadPeerTest, OtherMessagesCostTheConnection) {
  ExpectUnharmed();
  for (const std::vector<std::string>& payloads :
       std::vector<std::vector<std::string>>{
           {},
           {Bytes(kCall), Bytes(int64_t{1}), "three"},
           {Bytes(kCall), Bytes(int32_t{1}), "a short id", pickle_},
           {Bytes(kRet), Bytes(int64_t{1}), "a reply", pickle_},
           {Bytes(int32_t{0x3c}), Bytes(int64_t{1}), "neither", pickle_}}) {
    RawPeer peer("w1");  // it may say so
    peer.Connect(Address());
    peer.Write(payloads);
    EXPECT_EQ(peer.Read(), std::nullopt);
    ExpectUnharmed();
  }
}

TEST_F(BadPeerTest, ANameThatIsNoneIsNotBelieved) {
  Recorder recorder;
  Cluster cluster;
  cluster.set_observer(&recorder);
  cluster.Start(1, Echo());
  RawPeer peer(std::string(5000, '\n'));
  peer.Connect(*cluster.store()->TryGet("addrs/w0", Soon()));
  peer.Write({Bytes(kCall), Bytes(int64_t{1}), "", pickle_});
  ASSERT_TRUE(peer.Read().has_value());
  EXPECT_EQ(recorder.Count("pipe accepted ?"), 1);
}

// Bad servers.
class BadServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string address = peer_.Listen();
    ASSERT_TRUE(cluster_.store()->Set("names/1", "w1", Soon()).ok());
    ASSERT_TRUE(cluster_.store()->Set("addrs/w1", address, Soon()).ok());
    cluster_.set_observer(&recorder_);
    ASSERT_TRUE(cluster_.StartOne(OptionsFor(0, 2), Echo(), Soon()).ok());
  }

  Recorder recorder_;
  RawPeer peer_{"w1"};
  Cluster cluster_;
  const std::string pickle_{EmptyTensorPickle()};
};

TEST_F(BadServerTest, RepliesToCallsThatWereNotMadeAreDropped) {
  const Future call = cluster_[0].Send("w1", Request("x"));
  ASSERT_TRUE(peer_.WaitForConnection());
  const std::optional<RawPeer::Answer> request = peer_.Read();
  ASSERT_TRUE(request.has_value());
  for (const int64_t id : {request->id + 1, int64_t{-1}, int64_t{1} << 60,
                           request->id + (int64_t{1} << 48)}) {
    peer_.Write({Bytes(kRet), Bytes(id), "wrong", pickle_});
  }
  ASSERT_TRUE(recorder_.WaitFor("late", 4));
  EXPECT_FALSE(call.done());
  peer_.Write({Bytes(kRet), Bytes(request->id), "right", pickle_});
  ASSERT_TRUE(call.Wait(Soon()));
  ASSERT_TRUE(call.result().ok()) << call.status();
  EXPECT_EQ(call.result()->payload, "right");
  // The call is done, so this second reply is dropped.
  peer_.Write({Bytes(kRet), Bytes(request->id), "again", pickle_});
  EXPECT_TRUE(recorder_.WaitFor("late", 5));
}

TEST_F(BadServerTest, AReplyThatCannotBeReadFailsItsCall) {
  const Future call = cluster_[0].Send("w1", Request("x"));
  const Future other = cluster_[0].Send("w1", Request("y"));
  ASSERT_TRUE(peer_.WaitForConnection());
  const std::optional<RawPeer::Answer> request = peer_.Read();
  ASSERT_TRUE(request.has_value());
  peer_.Write({Bytes(kRet), Bytes(request->id), "", "no pickle"});
  const Future& failed = request->payload == "x" ? call : other;
  const Future& waiting = request->payload == "x" ? other : call;
  ASSERT_TRUE(failed.Wait(Soon()));
  EXPECT_THAT(std::string(failed.status().message()),
              HasSubstr("cannot read the reply of w1"));
  EXPECT_FALSE(waiting.done());
  // A request on this connection is nonsense, and ends it.
  peer_.Write({Bytes(kCall), Bytes(int64_t{1}), "", pickle_});
  ASSERT_TRUE(waiting.Wait(Soon()));
  EXPECT_TRUE(absl::IsUnavailable(waiting.status()));
  EXPECT_EQ(waiting.status().message(),
            "connection to w1 failed: it sent what is no reply");
}

// The id in the metadata says where the tensors go, the other one whose reply
// it is.
TEST_F(BadServerTest, AReplyWithTwoIdsEndsItsConnection) {
  const Future call = cluster_[0].Send("w1", Request("x"));
  ASSERT_TRUE(peer_.WaitForConnection());
  const std::optional<RawPeer::Answer> request = peer_.Read();
  ASSERT_TRUE(request.has_value());
  peer_.Write({Bytes(kRet), Bytes(request->id + 1), "", pickle_},
              EncodeReplyId(request->id));
  ASSERT_TRUE(call.Wait(Soon()));
  EXPECT_TRUE(absl::IsUnavailable(call.status())) << call.status();
  EXPECT_EQ(call.status().message(),
            "connection to w1 failed: it sent a reply with two ids");
}

TEST_F(BadServerTest, ASignOfLifeIsNoReply) {
  const Future call = cluster_[0].Send("w1", Request("x"));
  ASSERT_TRUE(peer_.WaitForConnection());
  const std::optional<RawPeer::Answer> request = peer_.Read();
  ASSERT_TRUE(request.has_value());
  const auto pong = static_cast<int32_t>(kControlResponse);
  peer_.Write({Bytes(pong), Bytes(request->id), "pong", pickle_});
  peer_.Write({Bytes(pong), Bytes(request->id), "pong", pickle_},
              EncodeReplyId(request->id));
  ASSERT_TRUE(call.Wait(Soon()));
  EXPECT_TRUE(absl::IsUnavailable(call.status())) << call.status();
}

TEST_F(BadServerTest, ExceptionsKeepTheirText) {
  const Future call = cluster_[0].Send("w1", Request("x"));
  ASSERT_TRUE(peer_.WaitForConnection());
  const std::optional<RawPeer::Answer> request = peer_.Read();
  ASSERT_TRUE(request.has_value());
  peer_.Write({Bytes(int32_t{0x237}), Bytes(request->id),
               "Error on Node 1: it mentions RPCErr:1: somewhere", pickle_});
  ASSERT_TRUE(call.Wait(Soon()));
  EXPECT_EQ(call.status().code(), absl::StatusCode::kUnknown);
  EXPECT_EQ(call.status().message(),
            "Error on Node 1: it mentions RPCErr:1: somewhere");
}

}  // namespace
}  // namespace reprise::testing

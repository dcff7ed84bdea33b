// Who comes to the port of an agent and is none, and what answers at an address
// where there is none. Over TensorPipe's own transport uv each of these ends
// the process.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/agent.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/agent/cluster.h"
#include "tests/unit/agent/recorder.h"
#include "tests/unit/transport/greetings.h"

namespace reprise::testing {
namespace {

using ::testing::HasSubstr;

sockaddr_in Loopback(int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// The ports that this process listens at.
std::vector<int> ListeningPorts() {
  std::vector<int> ports;
  for (int fd = 0; fd < 1024; ++fd) {
    int listens = 0;
    socklen_t size = sizeof(listens);
    sockaddr_in address = {};
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 ||
        listens == 0) {
      continue;
    }
    size = sizeof(address);
    if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0) {
      ports.push_back(ntohs(address.sin_port));
    }
  }
  return ports;
}

// A TCP connection by somebody who is no agent.
class Stranger {
 public:
  Stranger() = default;
  explicit Stranger(int port) { Connect(port); }
  void Connect(int port) {
    const sockaddr_in address = Loopback(port);
    EXPECT_EQ(connect(fd_, reinterpret_cast<const sockaddr*>(&address),
                      sizeof(address)),
              0);
    const timeval patience = {60, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  }
  ~Stranger() { close(fd_); }
  Stranger(const Stranger&) = delete;
  Stranger& operator=(const Stranger&) = delete;

  // False when it has been turned away.
  bool Say(const std::string& bytes) {
    return send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(bytes.size());
  }
  void Finish() { shutdown(fd_, SHUT_WR); }
  // The body of the next frame; empty when there is none.
  std::string Hear() {
    uint64_t length = 0;
    if (recv(fd_, &length, sizeof(length), MSG_WAITALL) != sizeof(length)) {
      return "";
    }
    std::string body(length, '\0');
    const ssize_t size = recv(fd_, body.data(), length, MSG_WAITALL);
    return size == static_cast<ssize_t>(length) ? body : "";
  }
  // Whether it is turned away without a word.
  bool IsTurnedAway() {
    char byte = 0;
    const ssize_t size = recv(fd_, &byte, 1, 0);
    return size == 0 || (size < 0 && errno == ECONNRESET);
  }

 private:
  const int fd_ = socket(AF_INET, SOCK_STREAM, 0);
};

class StrangerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    cluster_.set_observer(&recorder_);
    cluster_.Start(2, Echo());
    const std::string address = *cluster_.store()->TryGet("addrs/w0", Soon());
    port_ = std::stoi(address.substr(address.rfind(':') + 1));
    ExpectUnharmed();
  }
  void TearDown() override {
    ExpectUnharmed();
    // By a new connection, too.
    cluster_.Stop(1);
    ASSERT_TRUE(cluster_.StartOne(OptionsFor(1, 2), Echo(), Soon()).ok());
    EXPECT_TRUE(cluster_[1].Send("w0", Request("new")).status().ok());
    EXPECT_EQ(recorder_.Count("listener failed"), 0);
  }

  void ExpectUnharmed() {
    ASSERT_TRUE(cluster_[1].Send("w0", Request("")).status().ok());
    EXPECT_EQ(cluster_[1].GetMetrics()["agent.reconnects"], 0);
  }
  void ExpectTurnedAway(const std::string& bytes) {
    Stranger stranger(port_);
    stranger.Say(bytes);
    stranger.Finish();
    EXPECT_TRUE(stranger.IsTurnedAway());
    ExpectUnharmed();
  }

  Recorder recorder_;
  Cluster cluster_;
  int port_ = 0;
};

TEST_F(StrangerTest, OtherProtocolsAreTurnedAway) {
  ExpectTurnedAway("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
  ExpectTurnedAway(std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03", 10));
  ExpectTurnedAway("SSH-2.0-OpenSSH_9.2\r\n");
  ExpectTurnedAway(std::string(64, '\0'));
  ExpectTurnedAway(std::string(1 << 20, '\xff'));
  ExpectTurnedAway("");
}

TEST_F(StrangerTest, NonsenseInFramesIsTurnedAway) {
  std::mt19937 random(29);
  for (size_t length = 1; length < 40'000; length = length * 5 / 4 + 1) {
    std::string body(length, '\0');
    for (char& byte : body) byte = static_cast<char>(random());
    ExpectTurnedAway(body);
    ExpectTurnedAway(Frame(body));
    ExpectTurnedAway(PipeHelloFrame("w1") + Frame(body));
    ExpectTurnedAway(Frame(std::string(length, '\0')));
  }
  ExpectTurnedAway(std::string(8, '\x7f'));  // of a huge length
  ExpectTurnedAway(PipeHelloFrame("w1") +
                   BrochureFrame({{"carrier pigeon", "uv:*"}}));
}

TEST_F(StrangerTest, AHelloThatIsCutIsTurnedAway) {
  const std::string whole = PipeHelloFrame("w1") + BrochureFrame();
  for (size_t size = 0; size < whole.size(); ++size) {
    ExpectTurnedAway(whole.substr(0, size));
    if (size % 16 == 0) {
      Stranger goes_at_once(port_);
      goes_at_once.Say(whole.substr(0, size));
    }
  }
}

TEST_F(StrangerTest, AHelloInCrumbsIsAPipe) {
  Stranger stranger(port_);
  for (const char byte : PipeHelloFrame("crumbs") + BrochureFrame()) {
    ASSERT_TRUE(stranger.Say(std::string(1, byte)));
  }
  EXPECT_TRUE(recorder_.WaitFor("pipe accepted crumbs"));
}

TEST_F(StrangerTest, TheSilentDoNotStandInTheWay) {
  std::vector<std::unique_ptr<Stranger>> silent;
  for (int i = 0; i < 300; ++i) {
    silent.push_back(std::make_unique<Stranger>(port_));
    silent.back()->Say("GE");
  }
  EXPECT_TRUE(silent.front()->IsTurnedAway());  // for want of room
  Stranger late(port_);
  ASSERT_TRUE(late.Say(PipeHelloFrame("late") + BrochureFrame()));
  EXPECT_TRUE(recorder_.WaitFor("pipe accepted late"));
}

TEST_F(StrangerTest, ALackOfFileDescriptorsOnlyDelays) {
  Stranger stranger;
  rlimit usual;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &usual), 0);
  const rlimit none = {0, usual.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  stranger.Connect(port_);
  stranger.Say(PipeHelloFrame("patient") + BrochureFrame());
  // Time enough to try in vain.
  RealRuntime().SleepUntil(RealRuntime().Now() + absl::Milliseconds(50));
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &usual), 0);
  EXPECT_TRUE(recorder_.WaitFor("pipe accepted patient"));
}

// It asks for shm, and then comes over uv.
TEST_F(StrangerTest, AConnectionIsClaimedOverItsOwnTransportOnly) {
  TransportOptions options;
  options.transports = {"shm"};
  const absl::StatusOr<TransportSet> shm = RealTransports().Make(options);
  if (!shm.ok()) GTEST_SKIP() << shm.status();
  const std::string domain = shm->transports[0].context->domainDescriptor();
  Cluster cluster;
  cluster.Start(2, Echo(), [](AgentOptions& options) {
    options.transport.transports = {"shm", "uv"};
  });
  const std::string address = *cluster.store()->TryGet("addrs/w0", Soon());
  const int port = std::stoi(address.substr(address.rfind(':') + 1));
  Stranger stranger(port);
  stranger.Say(PipeHelloFrame("w1") + BrochureFrame({{"shm", domain}}));
  EXPECT_EQ(stranger.Hear(), "");  // it must offer uv, too
  Stranger second(port);
  ASSERT_TRUE(second.Say(PipeHelloFrame("w1") +
                         BrochureFrame({{"uv", "uv:*"}, {"shm", domain}})));
  ASSERT_NE(second.Hear(), "");
  // The numbers are small ones, and begin at 0.
  for (uint64_t number = 0; number < 100; ++number) {
    Stranger(port).Say(RequestedHelloFrame(number));
  }
  cluster.Stop(1);
  ASSERT_TRUE(cluster.StartOne(OptionsFor(1, 2), Echo(), Soon()).ok());
  EXPECT_TRUE(cluster[1].Send("w0", Request("")).status().ok());
}

// The channel mpt_uv has ports of its own.
TEST_F(StrangerTest, AllPortsAreGuarded) {
  Cluster cluster;
  cluster.Start(2, Echo(), [](AgentOptions& options) {
    options.transport.channels = {"mpt_uv"};
  });
  const std::vector<int> ports = ListeningPorts();
  EXPECT_GE(ports.size(), 2u + 2 * 17);
  for (const int port : ports) {
    for (const std::string& bytes :
         {std::string("GET / HTTP/1.1\r\n\r\n"), std::string(64, '\0'),
          Frame("x"), std::string()}) {
      Stranger stranger(port);
      stranger.Say(bytes);
      stranger.Finish();
      EXPECT_TRUE(stranger.IsTurnedAway());
    }
    Stranger(port).Say(PipeHelloFrame("pipe"));
    Stranger(port).Say(LaneHelloFrame(1'000'000));
  }
  Message request = Request("lanes");
  request.tensors = {*MakeTensor(DType::kUInt8, {1 << 20})};
  const Future reply = cluster[0].Send("w1", std::move(request));
  ASSERT_TRUE(reply.status().ok()) << reply.status();
  EXPECT_EQ(reply.result()->tensors.size(), 1u);
}

// A server that is none of ours, at the addresses of workers w1 and so on:
// many, because to the same one an agent waits before it connects again.
class AnswerTest : public ::testing::Test {
 protected:
  static constexpr int kWorkers = 60;

  void SetUp() override {
    sockaddr_in address = Loopback(0);
    socklen_t size = sizeof(address);
    ASSERT_EQ(bind(fd_, reinterpret_cast<const sockaddr*>(&address), size), 0);
    ASSERT_EQ(listen(fd_, 8), 0);
    ASSERT_EQ(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size),
              0);
    const std::string url =
        absl::StrCat("uv://127.0.0.1:", ntohs(address.sin_port));
    Store& store = *cluster_.store();
    for (int i = 1; i < kWorkers; ++i) {
      const std::string name = absl::StrCat("w", i);
      ASSERT_TRUE(store.Set(absl::StrCat("names/", i), name, Soon()).ok());
      ASSERT_TRUE(store.Set("addrs/" + name, url, Soon()).ok());
    }
    ASSERT_TRUE(
        cluster_.StartOne(OptionsFor(0, kWorkers), Echo(), Soon()).ok());
  }
  void TearDown() override { close(fd_); }

  // Calls one that was not called before.
  Future Call() {
    EXPECT_LT(++called_, kWorkers);
    return cluster_[0].Send(absl::StrCat("w", called_), Request(""));
  }
  absl::Status CallAndAnswer(const std::string& bytes, size_t crumb) {
    const Future call = Call();
    const int client = accept(fd_, nullptr, nullptr);
    for (size_t i = 0; i < bytes.size(); i += crumb) {
      const size_t size = std::min(crumb, bytes.size() - i);
      if (send(client, &bytes[i], size, MSG_NOSIGNAL) < 0) break;
    }
    shutdown(client, SHUT_WR);
    EXPECT_TRUE(call.Wait(Soon()));
    close(client);
    return call.status();
  }

  const int fd_ = socket(AF_INET, SOCK_STREAM, 0);
  int called_ = 0;
  Cluster cluster_;
};

TEST_F(AnswerTest, NonsenseFailsTheConnection) {
  std::mt19937 random(31);
  std::string noise(300, '\0');
  for (char& byte : noise) byte = static_cast<char>(random());
  for (const std::string& bytes :
       {std::string("HTTP/1.1 400 Bad Request\r\n\r\n"), std::string(64, '\0'),
        std::string(64, '\xff'), noise, Frame(noise), Frame("x"),
        BrochureFrame()}) {
    for (const size_t crumb : {bytes.size(), size_t{1}}) {
      const absl::Status status = CallAndAnswer(bytes, crumb);
      EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
      EXPECT_THAT(status.ToString(), HasSubstr("EPROTO"));
    }
  }
  const std::string answer = BrochureAnswerFrame();
  for (size_t size = 0; size < answer.size(); size += 7) {
    EXPECT_FALSE(CallAndAnswer(answer.substr(0, size), answer.size()).ok());
  }
}

TEST_F(AnswerTest, ALackOfFileDescriptorsFailsTheConnection) {
  rlimit usual;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &usual), 0);
  const rlimit none = {0, usual.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  for (int i = 0; i < 20; ++i) {
    const Future call = Call();
    EXPECT_TRUE(call.Wait(Soon()));
    EXPECT_EQ(call.status().code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(call.status().ToString(), HasSubstr("EMFILE"));
  }
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &usual), 0);
  EXPECT_THAT(CallAndAnswer("HTTP/1.1 400 Bad Request\r\n\r\n", 100).ToString(),
              HasSubstr("EPROTO"));
}

TEST(NoRouteTest, FailsTheConnection) {
  Cluster cluster;
  ASSERT_TRUE(cluster.store()->Set("names/1", "w1", Soon()).ok());
  // TCP has no broadcasts.
  ASSERT_TRUE(
      cluster.store()->Set("addrs/w1", "uv://255.255.255.255:9", Soon()).ok());
  ASSERT_TRUE(cluster.StartOne(OptionsFor(0, 2), Echo(), Soon()).ok());
  const Future call = cluster[0].Send("w1", Request(""));
  ASSERT_TRUE(call.Wait(Soon()));
  EXPECT_THAT(call.status().ToString(), HasSubstr("ENETUNREACH"));
}

}  // namespace
}  // namespace reprise::testing

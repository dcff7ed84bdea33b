// A listener for TensorPipe's core sees no connection without a hello.

#include "agent/transport/checked_listener.h"

#include <sys/resource.h>

#include <algorithm>
#include <array>  // nop needs it
#include <atomic>
#include <chrono>
#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/transport/checked_transport.h"
#include "agent/transport/peer_check.h"
#include "agent/transport/shm/context.h"
#include "agent/transport/transports.h"
#include "gtest/gtest.h"
#include "tensorpipe/core/nop_types.h"
#include "tensorpipe/transport/connection.h"
#include "tensorpipe/transport/listener.h"
#include "tests/unit/transport/shm_peer.h"

namespace reprise::testing {
namespace {

using tensorpipe::Error;
using tensorpipe::transport::Connection;
using Hello = tensorpipe::NopHolder<tensorpipe::Packet>;

// Over shm, whose listener itself waits only for shm's own hello.
class CheckedListenerTest : public ::testing::Test {
 protected:
  struct Accepted {
    std::string error;
    std::shared_ptr<Connection> connection;
  };

  void TearDown() override {
    listener_ = nullptr;
    client_->join();
    server_->join();
  }

  std::future<Accepted> Accept() {
    auto promise = std::make_shared<std::promise<Accepted>>();
    listener_->accept([promise](const Error& error,
                                std::shared_ptr<Connection> connection) {
      promise->set_value({error ? error.what() : "", std::move(connection)});
    });
    return promise->get_future();
  }

  // As TensorPipe's core begins. Returns when that is written.
  std::shared_ptr<Connection> ConnectAndGreet(const std::string& name) {
    std::shared_ptr<Connection> connection =
        client_->connect(listener_->addr());
    auto hello = std::make_shared<Hello>();
    hello->getObject().Become(
        hello->getObject().index_of<tensorpipe::SpontaneousConnection>());
    hello->getObject().get<tensorpipe::SpontaneousConnection>()->contextName =
        name;
    std::promise<bool> written;
    connection->write(
        *hello, [&, hello](const Error& error) { written.set_value(!error); });
    EXPECT_TRUE(written.get_future().get());
    return connection;
  }

  // The name in the hello that is read first.
  static std::string ReadName(Connection& connection) {
    Hello hello;
    std::promise<std::string> name;
    connection.read(hello, [&](const Error& error) {
      const auto* const caller =
          hello.getObject().get<tensorpipe::SpontaneousConnection>();
      name.set_value(error || caller == nullptr ? "" : caller->contextName);
    });
    return name.get_future().get();
  }

  const std::shared_ptr<tensorpipe::transport::Context> server_ =
      MakeChecked("shm", MakeShmContext(), std::make_shared<PeerCheck>(),
                  CheckedUse::kCore);
  const std::shared_ptr<tensorpipe::transport::Context> client_ =
      MakeShmContext();
  std::shared_ptr<tensorpipe::transport::Listener> listener_ =
      server_->listen("");
};

TEST_F(CheckedListenerTest, OthersThanCallersAreNotSeen) {
  std::future<Accepted> accepted = Accept();
  {
    ShmPeer goes_away(listener_->addr());
    ASSERT_TRUE(goes_away.Meet());
  }
  ShmPeer says_nothing(listener_->addr());
  ASSERT_TRUE(says_nothing.Meet());
  ShmPeer says_nonsense(listener_->addr());
  ASSERT_TRUE(says_nonsense.Meet());
  says_nonsense.WriteFrame("nonsense");
  EXPECT_TRUE(says_nonsense.IsClosed());
  const auto caller = ConnectAndGreet("somebody");
  const Accepted first = accepted.get();
  ASSERT_EQ(first.error, "");
  EXPECT_TRUE(ReadName(*first.connection).starts_with("somebody"));
}

TEST_F(CheckedListenerTest, ACallerThatIsGoneIsSeenWithItsHello) {
  { const auto caller = ConnectAndGreet("gone"); }
  const auto later = ConnectAndGreet("later");
  const Accepted first = Accept().get();
  const Accepted second = Accept().get();
  ASSERT_EQ(first.error, "");
  ASSERT_EQ(second.error, "");
  EXPECT_TRUE(ReadName(*first.connection).starts_with("gone"));
  EXPECT_TRUE(ReadName(*second.connection).starts_with("later"));
}

TEST_F(CheckedListenerTest, TheOldestOfTooManyIsDropped) {
  RaiseDescriptorLimit();
  std::future<Accepted> accepted = Accept();
  ShmPeer oldest(listener_->addr());
  ASSERT_TRUE(oldest.Meet());
  std::vector<std::shared_ptr<Connection>> silent;
  for (size_t i = 0; i < CheckedListener::MaxUngreeted(); ++i) {
    silent.push_back(client_->connect(listener_->addr()));
  }
  EXPECT_TRUE(oldest.IsClosed());
  const auto caller = ConnectAndGreet("somebody");
  EXPECT_EQ(accepted.get().error, "");
}

TEST_F(CheckedListenerTest, CallersWithoutRoomWaitAndTheOldestIsDropped) {
  static std::atomic<int64_t> spare = 0;
  static DescriptorRoom& room =
      *new DescriptorRoom([] { return spare.load(); }, std::chrono::minutes(5));
  const auto inner = MakeShmContext();
  listener_ = std::make_shared<CheckedListener>(
      std::make_shared<const CheckedCommon>(
          CheckedCommon{"shm", std::make_shared<PeerCheck>()}),
      inner->listen(""), /*is_for_core=*/true, room);
  rlimit usual = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &usual), 0);
  const rlimit low = {std::min<rlim_t>(usual.rlim_max, 512), usual.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  std::future<Accepted> accepted = Accept();
  const auto oldest = ConnectAndGreet("oldest");
  std::vector<std::shared_ptr<Connection>> callers;
  for (size_t i = 0; i < CheckedListener::MaxWithoutRoom(); ++i) {
    callers.push_back(ConnectAndGreet("later"));
  }
  std::promise<bool> failed;
  oldest->read([&](const Error& error, const void*, size_t) {
    failed.set_value(static_cast<bool>(error));
  });
  EXPECT_TRUE(failed.get_future().get());
  EXPECT_NE(accepted.wait_for(std::chrono::seconds(0)),
            std::future_status::ready);
  spare = DescriptorRoom::kPerPipe;
  const Accepted first = accepted.get();
  EXPECT_TRUE(ReadName(*first.connection).starts_with("later"));
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &usual), 0);
  listener_ = nullptr;
  inner->join();
}

TEST_F(CheckedListenerTest, ItsEndIsAnErrorOfEachAccept) {
  std::future<Accepted> before = Accept();
  listener_->close();
  EXPECT_NE(before.get().error, "");
  EXPECT_NE(Accept().get().error, "");
}

TEST_F(CheckedListenerTest, TheEndOfItsContextIsAnErrorOfEachAccept) {
  ShmPeer pending(listener_->addr());
  ASSERT_TRUE(pending.Meet());
  std::future<Accepted> before = Accept();
  server_->close();
  EXPECT_NE(before.get().error, "");
  EXPECT_TRUE(pending.IsClosed());
}

}  // namespace
}  // namespace reprise::testing

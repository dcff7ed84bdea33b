// The transport shm by itself, without TensorPipe's core on top: between our
// own ends, and with TensorPipe's in both roles.

#include <sys/resource.h>

#include <array>  // nop needs it
#include <deque>
#include <filesystem>
#include <functional>
#include <future>
#include <iterator>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/transport/peer_liveness.h"
#include "agent/transport/shm/context.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensorpipe/core/nop_types.h"
#include "tensorpipe/tensorpipe.h"
#include "tensorpipe/transport/connection.h"
#include "tensorpipe/transport/listener.h"

namespace reprise {
namespace {

using tensorpipe::Error;
using tensorpipe::transport::Connection;
using tensorpipe::transport::Listener;
using ::testing::HasSubstr;
using Object = tensorpipe::NopHolder<tensorpipe::Descriptor>;

struct Outcome {
  std::string error;  // empty: none
  std::string bytes;
};

std::string TextOf(const Error& error) { return error ? error.what() : ""; }

std::future<Outcome> Read(Connection& connection, std::string& into) {
  auto promise = std::make_shared<std::promise<Outcome>>();
  connection.read(into.data(), into.size(),
                  [promise, &into](const Error& error, const void*, size_t) {
                    promise->set_value({TextOf(error), error ? "" : into});
                  });
  return promise->get_future();
}

std::future<std::string> Write(Connection& connection, std::string bytes) {
  auto kept = std::make_shared<const std::string>(std::move(bytes));
  auto promise = std::make_shared<std::promise<std::string>>();
  connection.write(kept->data(), kept->size(),
                   [promise, kept](const Error& error) {
                     promise->set_value(TextOf(error));
                   });
  return promise->get_future();
}

std::future<std::string> Write(Connection& connection, const Object& object) {
  auto promise = std::make_shared<std::promise<std::string>>();
  connection.write(object, [promise](const Error& error) {
    promise->set_value(TextOf(error));
  });
  return promise->get_future();
}

std::future<std::string> Read(Connection& connection, Object& object) {
  auto promise = std::make_shared<std::promise<std::string>>();
  connection.read(object, [promise](const Error& error) {
    promise->set_value(TextOf(error));
  });
  return promise->get_future();
}

// Bytes that differ from place to place.
std::string Pattern(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<char>(i * 2654435761u >> 13);
  }
  return bytes;
}

int CountDescriptors() {
  const auto files = std::filesystem::directory_iterator("/proc/self/fd");
  return static_cast<int>(std::distance(begin(files), end(files)));
}

// What has to become so.
bool Await(const std::function<bool()>& condition) {
  for (int i = 0; i < 60'000 && !condition(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return condition();
}

std::shared_ptr<tensorpipe::transport::Context> Make(bool is_ours) {
  return is_ours ? MakeShmContext() : tensorpipe::transport::shm::create();
}

class ShmTest : public ::testing::Test {
 protected:
  void Start(bool is_server_ours, bool is_client_ours) {
    server_ = Make(is_server_ours);
    client_ = Make(is_client_ours);
    listener_ = server_->listen("");
    EXPECT_NE(listener_->addr(), "");  // it listens by now
  }
  void TearDown() override {
    near_ = far_ = nullptr;
    listener_ = nullptr;
    if (client_ != nullptr) client_->join();
    if (server_ != nullptr) server_->join();
  }
  // A connection's two ends.
  void Connect() {
    near_ = client_->connect(listener_->addr());
    Accept();
  }
  void Accept() {
    std::promise<std::shared_ptr<Connection>> accepted;
    listener_->accept(
        [&](const Error& error, std::shared_ptr<Connection> connection) {
          EXPECT_FALSE(error) << error.what();
          accepted.set_value(std::move(connection));
        });
    far_ = accepted.get_future().get();
  }

  std::shared_ptr<tensorpipe::transport::Context> server_;
  std::shared_ptr<tensorpipe::transport::Context> client_;
  std::shared_ptr<Listener> listener_;
  std::shared_ptr<Connection> near_;  // the client's
  std::shared_ptr<Connection> far_;
};

struct Pairing {
  bool is_server_ours;
  bool is_client_ours;
};

class ShmPairTest : public ShmTest,
                    public ::testing::WithParamInterface<Pairing> {
 protected:
  void SetUp() override {
    Start(GetParam().is_server_ours, GetParam().is_client_ours);
  }
  // Both ways, with whose end it is that writes.
  template <typename Do>
  void BothWays(const Do& action) {
    action(*near_, *far_);
    action(*far_, *near_);
  }
};

INSTANTIATE_TEST_SUITE_P(
    Pairs, ShmPairTest,
    ::testing::Values(Pairing{true, true}, Pairing{true, false},
                      Pairing{false, true}),
    [](const ::testing::TestParamInfo<Pairing>& info) {
      const auto name = [](bool is_ours) { return is_ours ? "Ours" : "Stock"; };
      return absl::StrCat(name(info.param.is_client_ours), "To",
                          name(info.param.is_server_ours));
    });

TEST_P(ShmPairTest, TheDomainIsTheSame) {
  EXPECT_NE(server_->domainDescriptor(), "");
  EXPECT_EQ(server_->domainDescriptor(), client_->domainDescriptor());
  EXPECT_TRUE(server_->canCommunicateWithRemote(client_->domainDescriptor()));
}

TEST_P(ShmPairTest, FramesComeInTheirOrderBothWays) {
  Connect();
  std::vector<std::string> frames;
  for (const size_t size :
       {1, 0, 64, 4095, 4096, 70'000, 3'000'001, 2, 0, 2 << 20, 16 << 20, 5}) {
    frames.push_back(Pattern(size));
  }
  BothWays([&](Connection& from, Connection& to) {
    std::deque<std::future<std::string>> written;
    std::deque<std::future<Outcome>> read;
    std::deque<std::string> places;
    for (const std::string& frame : frames) {
      written.push_back(Write(from, frame));
    }
    for (const std::string& frame : frames) {
      read.push_back(Read(to, places.emplace_back(frame.size(), '?')));
    }
    for (size_t i = 0; i < frames.size(); ++i) {
      const Outcome outcome = read[i].get();
      EXPECT_EQ(outcome.error, "");
      EXPECT_TRUE(outcome.bytes == frames[i]) << i;
      EXPECT_EQ(written[i].get(), "");
    }
  });
}

TEST_P(ShmPairTest, FramesOfAnyLengthAreRead) {
  Connect();
  BothWays([&](Connection& from, Connection& to) {
    for (const size_t size : {1, 3, 5000, 300'000, 16 << 20}) {
      const std::string frame = Pattern(size);
      std::future<std::string> written = Write(from, frame);
      std::promise<std::string> read;
      to.read([&](const Error& error, const void* bytes, size_t length) {
        EXPECT_FALSE(error) << error.what();
        read.set_value({static_cast<const char*>(bytes), length});
      });
      EXPECT_TRUE(read.get_future().get() == frame) << size;
      EXPECT_EQ(written.get(), "");
    }
  });
}

TEST_P(ShmPairTest, ObjectsComeAmongFrames) {
  Connect();
  BothWays([&](Connection& from, Connection& to) {
    for (const size_t size : {0, 100, 2'000'000}) {
      Object object;
      object.getObject().metadata = Pattern(size);
      std::future<std::string> written = Write(from, object);
      const std::string frame = "after it";
      std::future<std::string> after = Write(from, frame);
      Object came;
      EXPECT_EQ(Read(to, came).get(), "");
      EXPECT_TRUE(came.getObject().metadata == object.getObject().metadata);
      std::string place(frame.size(), '?');
      EXPECT_EQ(Read(to, place).get().bytes, frame);
      EXPECT_EQ(written.get(), "");
      EXPECT_EQ(after.get(), "");
    }
  });
}

TEST_P(ShmPairTest, EmptyFramesMayHaveNoMemory) {
  Connect();
  BothWays([&](Connection& from, Connection& to) {
    std::promise<std::string> written;
    from.write(nullptr, 0,
               [&](const Error& error) { written.set_value(TextOf(error)); });
    std::promise<const void*> read;
    to.read(nullptr, 0,
            [&](const Error& error, const void* bytes, size_t size) {
              EXPECT_FALSE(error);
              EXPECT_EQ(size, 0u);
              read.set_value(bytes);
            });
    EXPECT_EQ(read.get_future().get(), nullptr);
    EXPECT_EQ(written.get_future().get(), "");
  });
}

// Each read is posted in the callback of the last.
TEST_P(ShmPairTest, AllThatWasWrittenBeforeTheCloseArrives) {
  constexpr int kFrames = 1000;
  for (int round = 0; round < 10; ++round) {
    Connect();
    std::string place(4, '?');
    std::future<std::string> met = Write(*far_, "meet");
    EXPECT_EQ(Read(*near_, place).get().bytes, "meet");
    std::vector<std::string> frames;
    for (int i = 0; i < kFrames; ++i) frames.push_back(absl::StrCat(i));
    auto came = std::make_shared<std::vector<std::string>>();
    std::promise<std::string> ended;
    std::function<void()> read = [&, came] {
      far_->read([&, came](const Error& error, const void* bytes, size_t size) {
        if (error) return ended.set_value(TextOf(error));
        came->emplace_back(static_cast<const char*>(bytes), size);
        read();
      });
    };
    read();
    std::vector<std::future<std::string>> written;
    for (const std::string& frame : frames) {
      written.push_back(Write(*near_, frame));
    }
    near_->close();
    const std::string error = ended.get_future().get();
    EXPECT_TRUE(error.find("EOF") != error.npos ||
                error.find("eof") != error.npos)
        << error;
    EXPECT_EQ(came->size(), frames.size());
    EXPECT_TRUE(*came == frames);
    for (auto& one : written) EXPECT_EQ(one.get(), "");
  }
}

TEST_P(ShmPairTest, AStreamOfFramesIsSlowedDownByItsReader) {
  Connect();
  const std::string frame(1 << 20, 'x');
  std::deque<std::future<std::string>> written;
  for (int i = 0; i < 20; ++i) written.push_back(Write(*near_, frame));
  EXPECT_NE(written.back().wait_for(std::chrono::milliseconds(20)),
            std::future_status::ready);
  for (int i = 0; i < 20; ++i) {
    std::string place(frame.size(), '?');
    EXPECT_TRUE(Read(*far_, place).get().bytes == frame);
  }
  for (auto& one : written) EXPECT_EQ(one.get(), "");
}

TEST_P(ShmPairTest, ManyConnectionsAndNoDescriptorIsLeft) {
  const int before = CountDescriptors();
  for (int round = 0; round < 3; ++round) {
    std::vector<std::shared_ptr<Connection>> all;
    for (int i = 0; i < 30; ++i) {
      Connect();
      all.push_back(near_);
      all.push_back(far_);
      std::string place(5, '?');
      std::future<std::string> written = Write(*near_, "hello");
      EXPECT_EQ(Read(*far_, place).get().bytes, "hello");
      EXPECT_EQ(written.get(), "");
    }
    near_ = far_ = nullptr;
  }
  // Those of the queues stay a second.
  EXPECT_TRUE(Await([&] { return CountDescriptors() == before; }))
      << CountDescriptors() - before;
}

TEST_P(ShmPairTest, WhatWaitsEndsWithItsConnection) {
  Connect();
  std::string place(4, '?');
  std::future<Outcome> read = Read(*near_, place);
  near_->close();
  EXPECT_NE(read.get().error, "");
  EXPECT_NE(Read(*near_, place).get().error, "");
  EXPECT_NE(Write(*near_, place).get(), "");
  EXPECT_NE(Read(*far_, place).get().error, "");
}

TEST_P(ShmPairTest, AContextThatEndsEndsWhatItHas) {
  Connect();
  std::string place(4, '?');
  std::future<Outcome> read = Read(*far_, place);
  std::promise<std::string> accepted;
  listener_->accept(
      [&](const Error& error, const std::shared_ptr<Connection>&) {
        accepted.set_value(TextOf(error));
      });
  server_->join();
  EXPECT_THAT(read.get().error, HasSubstr("closed"));
  EXPECT_THAT(accepted.get_future().get(), HasSubstr("closed"));
  const auto late = server_->connect("nobody");
  EXPECT_THAT(Read(*late, place).get().error, HasSubstr("closed"));
}

class OurShmTest : public ShmTest {
 protected:
  void SetUp() override { Start(true, true); }

  static rlimit SetDescriptorLimit(rlim_t limit) {
    rlimit usual;
    EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &usual), 0);
    const rlimit wanted = {limit, usual.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &wanted), 0);
    return usual;
  }
};

TEST_F(OurShmTest, AConnectionTakesOneDescriptor) {
  const int before = CountDescriptors();
  std::vector<std::shared_ptr<Connection>> all;
  for (int i = 0; i < 20; ++i) {
    Connect();
    all.push_back(near_);
    all.push_back(far_);
    std::string place(2, '?');
    std::future<std::string> written = Write(*far_, "hi");
    EXPECT_EQ(Read(*near_, place).get().bytes, "hi");
  }
  // Those of the two queues stay a second.
  EXPECT_TRUE(Await([&] { return CountDescriptors() == before + 2 * 20; }))
      << CountDescriptors() - before;
}

TEST_F(OurShmTest, ALengthOf32BitsIsRefused) {
  Connect();
  std::promise<std::string> written;
  const char byte = 0;
  near_->write(&byte, size_t{1} << 32,
               [&](const Error& error) { written.set_value(TextOf(error)); });
  EXPECT_THAT(written.get_future().get(), HasSubstr("EMSGSIZE"));
  std::string place(4, '?');
  EXPECT_THAT(Read(*far_, place).get().error, HasSubstr("EOF"));
}

TEST_F(OurShmTest, AnObjectThatAStockReaderCannotTakeIsRefused) {
  for (const bool is_server_ours : {true, false}) {
    TearDown();
    Start(is_server_ours, !is_server_ours);
    Connect();
    Object object;
    object.getObject().metadata = std::string(2 << 20, 'x');
    Connection& ours = is_server_ours ? *far_ : *near_;
    EXPECT_THAT(Write(ours, object).get(), HasSubstr("EMSGSIZE"));
  }
  TearDown();
  Start(true, true);
  Connect();
  Object object;
  object.getObject().metadata = std::string(5 << 20, 'x');
  std::future<std::string> written = Write(*near_, object);
  Object came;
  EXPECT_EQ(Read(*far_, came).get(), "");
  EXPECT_EQ(came.getObject().metadata.size(), size_t{5} << 20);
  EXPECT_EQ(written.get(), "");
}

TEST_F(OurShmTest, AFrameOfAnotherLengthFailsTheConnection) {
  for (const size_t size : {3, 5, 0}) {
    Connect();
    std::string place(4, '?');
    std::future<Outcome> read = Read(*far_, place);
    const std::string frame(size, 'x');
    std::future<std::string> written = Write(*near_, frame);
    EXPECT_THAT(read.get().error, HasSubstr("EPROTO"));
    EXPECT_EQ(place, "????");
    written.wait();
  }
}

TEST_F(OurShmTest, WhatIsInTheWaySaysSo) {
  std::string place(4, '?');
  const auto error_of = [&](const std::string& address) {
    const auto connection = client_->connect(address);
    std::future<std::string> written = Write(*connection, place);
    std::string error = Read(*connection, place).get().error;
    EXPECT_EQ(written.get(), error);
    return error;
  };
  EXPECT_THAT(error_of("nobody is here"), HasSubstr("ECONNREFUSED"));
  EXPECT_THAT(error_of(""), HasSubstr("EINVAL"));
  EXPECT_THAT(error_of(std::string(108, 'x')), HasSubstr("ENAMETOOLONG"));
  const auto second = client_->listen(listener_->addr());
  EXPECT_EQ(second->addr(), "");
  std::promise<std::string> accepted;
  second->accept([&](const Error& error, const std::shared_ptr<Connection>&) {
    accepted.set_value(TextOf(error));
  });
  EXPECT_THAT(accepted.get_future().get(), HasSubstr("EADDRINUSE"));
  Connect();  // the first one does not mind
}

TEST_F(OurShmTest, AListenerHasTheNameThatItIsGiven) {
  const std::string name = absl::StrCat("reprise test ", listener_->addr());
  listener_ = server_->listen(name);
  EXPECT_EQ(listener_->addr(), name);
  Connect();
}

TEST_F(OurShmTest, ALackOfDescriptorsIsAnErrorOfWhoConnects) {
  const std::string address = listener_->addr();
  const rlimit usual = SetDescriptorLimit(0);
  std::string place(4, '?');
  const auto connection = client_->connect(address);
  std::future<std::string> written = Write(*connection, place);
  EXPECT_THAT(Read(*connection, place).get().error, HasSubstr("EMFILE"));
  EXPECT_THAT(written.get(), HasSubstr("EMFILE"));
  const std::shared_ptr<Listener> second = client_->listen("");
  EXPECT_EQ(second->addr(), "");
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &usual), 0);
  Connect();
}

// At each number of descriptors that are left, either end fails or works, and
// the listener lives.
TEST_F(OurShmTest, FewDescriptorsFailConnectionsOnly) {
  const std::string address = listener_->addr();
  std::string place(2, '?');
  for (rlim_t more = 0; more < 16; ++more) {
    const rlimit usual =
        SetDescriptorLimit(static_cast<rlim_t>(CountDescriptors()) + more);
    const auto connection = client_->connect(address);
    std::future<std::string> written = Write(*connection, place);
    std::future<Outcome> read = Read(*connection, place);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &usual), 0);
    connection->close();
    read.wait();
    written.wait();
  }
  // Those who came late enough are accepted first.
  near_ = client_->connect(address);
  std::future<std::string> written = Write(*near_, "last");
  std::string last;
  while (last != "last") {
    Accept();
    std::string four(4, '?');
    last = Read(*far_, four).get().bytes;
  }
}

TEST_F(OurShmTest, APeerIsKnownAndItsEndIsSeen) {
  Connect();
  auto* const near = dynamic_cast<PeerLiveness*>(near_.get());
  auto* const far = dynamic_cast<PeerLiveness*>(far_.get());
  ASSERT_NE(near, nullptr);
  ASSERT_NE(far, nullptr);
  std::string place(2, '?');
  std::future<std::string> written = Write(*near_, "hi");
  EXPECT_EQ(Read(*far_, place).get().bytes, "hi");
  EXPECT_EQ(near->PeerPid(), getpid());
  EXPECT_EQ(far->PeerPid(), getpid());
  EXPECT_TRUE(near->PeerIsOpen());
  EXPECT_TRUE(far->PeerIsOpen());
  // The other end knows it before anybody here is told.
  std::promise<bool> seen;
  near_->read(place.data(), place.size(),
              [&](const Error&, const void*, size_t) {
                seen.set_value(far->PeerIsOpen());
              });
  near_->close();
  EXPECT_FALSE(seen.get_future().get());
  EXPECT_FALSE(near->PeerIsOpen());
}

}  // namespace
}  // namespace reprise

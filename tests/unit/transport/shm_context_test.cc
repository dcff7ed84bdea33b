// The transport shm between our own ends: what it takes, refuses and knows.

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/transport/peer_liveness.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/transport/shm_ends.h"

namespace reprise::testing {
namespace {

using ::testing::HasSubstr;

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

// 1 MiB of memory, again and again, at `size` consecutive addresses.
class RepeatedMemory {
 public:
  explicit RepeatedMemory(size_t size) : size_(size + kPiece) {
    const int file = memfd_create("repeated", MFD_CLOEXEC);
    EXPECT_EQ(ftruncate(file, kPiece), 0);
    data_ = static_cast<char*>(
        mmap(nullptr, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    for (size_t at = 0; at + kPiece <= size_; at += kPiece) {
      EXPECT_NE(mmap(data_ + at, kPiece, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_FIXED | MAP_POPULATE, file, 0),
                MAP_FAILED);
    }
    close(file);
  }
  ~RepeatedMemory() { munmap(data_, size_); }

  static constexpr size_t kPiece = size_t{1} << 20;
  char* data() { return data_; }

 private:
  const size_t size_;
  char* data_;
};

TEST_F(OurShmTest, AFrameMayBeLongerThan4GiB) {
  Connect();
  constexpr size_t kLength = (size_t{1} << 32) + 5;
  const std::string pattern = Pattern(RepeatedMemory::kPiece);
  RepeatedMemory sent(kLength);
  RepeatedMemory received(kLength);
  std::memcpy(sent.data(), pattern.data(), pattern.size());
  std::promise<std::string> written;
  std::promise<std::string> read;
  near_->write(sent.data(), kLength,
               [&](const Error& error) { written.set_value(TextOf(error)); });
  far_->read(received.data(), kLength,
             [&](const Error& error, const void*, size_t) {
               read.set_value(TextOf(error));
             });
  EXPECT_EQ(written.get_future().get(), "");
  EXPECT_EQ(read.get_future().get(), "");
  EXPECT_TRUE(std::string_view(received.data(), pattern.size()) == pattern);
  // The next frame begins where this one ends.
  std::string place(2, '?');
  std::future<std::string> next = Write(*near_, "hi");
  EXPECT_EQ(Read(*far_, place).get().bytes, "hi");
}

TEST_F(OurShmTest, AStockReaderIsNotSentALengthOf33Bits) {
  TearDown();
  Start(/*is_server_ours=*/false, /*is_client_ours=*/true);
  Connect();
  std::promise<std::string> written;
  const char byte = 0;
  near_->write(&byte, size_t{1} << 32,
               [&](const Error& error) { written.set_value(TextOf(error)); });
  EXPECT_THAT(written.get_future().get(), HasSubstr("EMSGSIZE"));
  std::string place(4, '?');
  EXPECT_THAT(Read(*far_, place).get().error, HasSubstr("eof"));
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
  EXPECT_THAT(testing::Accept(*second).get().error, HasSubstr("EADDRINUSE"));
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
}  // namespace reprise::testing

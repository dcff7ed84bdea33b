// The parts of the channels cma, one by one.

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "agent/runtime/runtime.h"
#include "agent/transport/cma/copier.h"
#include "agent/transport/cma/domain.h"
#include "agent/transport/cma/environment.h"
#include "agent/transport/cma/remote_copy.h"
#include "agent/transport/cma/staging.h"
#include "agent/transport/cma/validity.h"
#include "agent/transport/uv/tcp_peer.h"
#include "gtest/gtest.h"
#include "tensorpipe/channel/cma/factory.h"

namespace reprise {
namespace {

using tensorpipe::Error;

TEST(CmaDomainTest, IsTensorPipesOwn) {
  const auto domain = CmaDomain();
  const auto stock = tensorpipe::channel::cma::create();
  ASSERT_EQ(domain.ok(), stock->isViable()) << domain.status();
  if (!domain.ok()) GTEST_SKIP() << domain.status();
  EXPECT_EQ(*domain, stock->deviceDescriptors().begin()->second);
}

TEST(ValidityWordTest, NoTwoAreTheSameAndARevokedOneIsGone) {
  ValidityWord one = ValidityWord::Make(1);
  ValidityWord two = ValidityWord::Make(2);
  ASSERT_NE(one.address(), 0u);
  EXPECT_NE(one.address(), two.address());
  const auto* const word =
      reinterpret_cast<const std::atomic<uint64_t>*>(one.address());
  EXPECT_EQ(word->load(), 1u);
  ValidityWord moved = std::move(one);
  EXPECT_EQ(word->load(), 1u);
  moved.Revoke();
  EXPECT_EQ(word->load(), 0u);
  EXPECT_EQ(moved.address(), 0u);
}

int ErrnoOfReading(const void* address) {
  char byte;
  iovec local = {&byte, 1};
  iovec remote = {const_cast<void*>(address), 1};
  return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1 ? 0 : errno;
}

TEST(StagingTest, WhatIsRetiredCannotBeReadAndItsAddressDoesNotComeBack) {
  constexpr size_t kBytes = size_t{1} << 20;
  Staging staging = Staging::Make(kBytes);
  char* const address = staging.data();
  ASSERT_NE(address, nullptr);
  address[kBytes - 1] = 'x';
  EXPECT_EQ(ErrnoOfReading(address + kBytes - 1), 0);
  staging.Retire();
  EXPECT_EQ(ErrnoOfReading(address), EFAULT);
  EXPECT_EQ(ErrnoOfReading(address + kBytes - 1), EFAULT);
  for (int i = 0; i < 100; ++i) {
    Staging other = Staging::Make(kBytes);
    EXPECT_NE(other.data(), address);
    other.Release();
  }
}

TEST(CopierTest, ALargeCopyDoesNotHoldUpASmallOne) {
  Copier copier(RealRuntime());
  std::atomic<bool> small_is_done = false;
  std::vector<std::promise<void>> ended(Copier::kMaxThreads);
  for (auto& end : ended) {
    ASSERT_TRUE(copier.Run([&] {
      if (!small_is_done) return true;
      end.set_value();
      return false;
    }));
  }
  // All threads have something to do for ever.
  ASSERT_TRUE(copier.Run([&] {
    small_is_done = true;
    return false;
  }));
  for (auto& end : ended) end.get_future().wait();
  copier.Join();
  EXPECT_FALSE(copier.Run([] { return false; }));
}

TEST(CopierTest, JoinWaitsForWhatWasTaken) {
  Copier copier(RealRuntime());
  std::atomic<int> steps = 0;
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(
        copier.Run([&, left = 50]() mutable { return ++steps, --left > 0; }));
  }
  copier.Join();
  EXPECT_EQ(steps, 20 * 50);
}

class FakeLiveness final : public PeerLiveness {
 public:
  bool PeerIsOpen() override { return --looks_until_closed_ >= 0; }
  std::optional<pid_t> PeerPid() override { return pid_; }

  int looks_until_closed_ = 1000;
  std::optional<pid_t> pid_ = getpid();
};

class RemoteCopyTest : public testing::Test {
 protected:
  static constexpr size_t kBytes = 3 * Copier::kPieceBytes + 5;

  // "" when the bytes are taken for good.
  std::string Run(RemoteCopy copy) {
    copy.memory = RealCmaEnvironment().memory;
    copy.pid = getpid();
    copy.from = reinterpret_cast<uint64_t>(source_.data());
    copy.into = target_.data();
    copy.length = kBytes;
    copy.stop = stop_;
    std::optional<Error> result;
    copy.done = [&](const Error& error) { result = error; };
    while (copy.Step()) {
      if (after_piece_) after_piece_();
    }
    EXPECT_TRUE(result.has_value());
    return *result ? result->what() : "";
  }

  std::vector<char> source_ = std::vector<char>(kBytes, 'A');
  std::vector<char> target_ = std::vector<char>(kBytes);
  std::shared_ptr<std::atomic<bool>> stop_ =
      std::make_shared<std::atomic<bool>>(false);
  std::function<void()> after_piece_;
};

TEST_F(RemoteCopyTest, CountsWhileTheWordHolds) {
  ValidityWord word = ValidityWord::Make(42);
  RemoteCopy copy;
  copy.word = word.address();
  copy.value = 42;
  EXPECT_EQ(Run(copy), "");
  EXPECT_EQ(source_, target_);
  // Revoked in the middle, and its word used again for another one.
  std::optional<ValidityWord> other;
  after_piece_ = [&] {
    word.Revoke();
    if (!other.has_value()) other = ValidityWord::Make(43);
    EXPECT_EQ(other->address(), copy.word);
  };
  EXPECT_TRUE(absl::StrContains(Run(copy), "let go"));
}

TEST_F(RemoteCopyTest, CountsWhileTensorPipesOwnHasItsConnectionOpen) {
  RemoteCopy copy;
  const auto liveness = std::make_shared<FakeLiveness>();
  copy.liveness = liveness;
  EXPECT_EQ(Run(copy), "");
  EXPECT_EQ(source_, target_);
  // Closed after the first look, and after each of the pieces.
  for (const int looks : {0, 1, 2, 3, 4}) {
    liveness->looks_until_closed_ = looks;
    EXPECT_TRUE(absl::StrContains(Run(copy), "closed before")) << looks;
  }
  liveness->looks_until_closed_ = 5;
  EXPECT_EQ(Run(copy), "");
  liveness->pid_ = std::nullopt;
  EXPECT_TRUE(absl::StrContains(Run(copy), "cannot be shown"));
  copy.liveness = nullptr;
  EXPECT_TRUE(absl::StrContains(Run(copy), "over this transport"));
}

TEST_F(RemoteCopyTest, StopsBetweenPieces) {
  ValidityWord word = ValidityWord::Make(42);
  RemoteCopy copy;
  copy.word = word.address();
  copy.value = 42;
  after_piece_ = [&] { *stop_ = true; };
  EXPECT_NE(Run(copy), "");
  EXPECT_EQ(target_[Copier::kPieceBytes - 1], 'A');
  EXPECT_EQ(target_[Copier::kPieceBytes], 0);
}

// A connection within this process, of that family.
struct TcpPair {
  explicit TcpPair(int family) {
    sockaddr_storage address = {};
    address.ss_family = static_cast<sa_family_t>(family);
    socklen_t size = sizeof(sockaddr_in);
    if (family == AF_INET) {
      reinterpret_cast<sockaddr_in&>(address).sin_addr.s_addr =
          htonl(INADDR_LOOPBACK);
    } else {
      reinterpret_cast<sockaddr_in6&>(address).sin6_addr = in6addr_loopback;
      size = sizeof(sockaddr_in6);
    }
    auto* const where = reinterpret_cast<sockaddr*>(&address);
    listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    near = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    works = bind(listener, where, size) == 0 && listen(listener, 1) == 0 &&
            getsockname(listener, where, &size) == 0 &&
            connect(near, where, size) == 0;
    if (works) far = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  }
  ~TcpPair() {
    for (const int fd : {listener, near, far}) {
      if (fd >= 0) close(fd);
    }
  }

  int listener = -1;
  int near = -1;
  int far = -1;
  bool works = false;
};

TEST(TcpPeerTest, FindsTheProcessThatHoldsTheOtherEnd) {
  for (const int family : {AF_INET, AF_INET6}) {
    TcpPair pair(family);
    if (!pair.works && family == AF_INET6) continue;  // no IPv6 here
    ASSERT_TRUE(pair.works);
    const auto near = TcpEndsOf(pair.near);
    const auto far = TcpEndsOf(pair.far);
    ASSERT_TRUE(near.has_value() && far.has_value());
    TcpPeer peer;
    EXPECT_FALSE(peer.IsHeldBy(getppid(), *near));
    EXPECT_TRUE(peer.IsHeldBy(getpid(), *near));
    EXPECT_TRUE(peer.IsHeldBy(getpid(), *near));
    EXPECT_FALSE(peer.IsHeldBy(getppid(), *near));
    EXPECT_TRUE(TcpPeer().IsHeldBy(getpid(), *far));
    // Closed, and its descriptor used again at once.
    close(pair.far);
    pair.far = open("/dev/null", O_RDONLY | O_CLOEXEC);
    EXPECT_FALSE(peer.IsHeldBy(getpid(), *near));
    EXPECT_FALSE(TcpPeer().IsHeldBy(getpid(), *near));
    EXPECT_FALSE(TcpEndsOf(pair.listener).has_value());
  }
}

}  // namespace
}  // namespace reprise

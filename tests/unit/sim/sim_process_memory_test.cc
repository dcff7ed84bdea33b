#include "sim/network/sim_process_memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "tests/unit/sim/sim_testing.h"

namespace reprise {
namespace {

using tensorpipe::Error;

constexpr pid_t kReader = 1000;
constexpr pid_t kOwner = 2000;

int ErrnoOf(const Error& error) {
  if (!error) return 0;
  const auto* const system = error.castToType<tensorpipe::SystemError>().get();
  return system == nullptr ? -1 : system->errorCode();
}

class SimProcessMemoryTest : public testing::Test {
 protected:
  // Reads the owner's `text_` on a thread of the reader's, and runs the world.
  void Read(int host_of_owner = 0) {
    ProcessMemory& reader = memories_.Connect(world_.node(0), 0, kReader);
    memories_.Connect(world_.node(1), host_of_owner, kOwner);
    EXPECT_EQ(reader.OwnPid(), kReader);
    world_.Start(0, "reader", [this, &reader] {
      error_ = reader.Read(kOwner, reinterpret_cast<uint64_t>(from_),
                           copy_.data(), copy_.size());
      took_ns_ = world_.now_ns();
    });
    ASSERT_EQ(world_.Run(), Outcome::kFinished);
  }

  TestWorld world_;
  SimProcessMemories memories_{*world_};
  std::string text_ = std::string(80'000, 'a');
  std::string copy_ = std::string(80'000, ' ');
  const char* from_ = text_.data();
  Error error_;
  int64_t took_ns_ = 0;
};

TEST_F(SimProcessMemoryTest, ACopyTakesTime) {
  Read();
  EXPECT_EQ(ErrnoOf(error_), 0);
  EXPECT_EQ(copy_, text_);
  EXPECT_GE(took_ns_, 10 * kMicrosecond);
}

TEST_F(SimProcessMemoryTest, WhatTheOwnerWritesMeanwhileIsCopied) {
  world_.Start(1, "owner", [this] {
    world_.runtime(1).SleepUntil(world_.After(absl::Microseconds(5)));
    text_.assign(text_.size(), 'b');
  });
  Read();
  EXPECT_EQ(ErrnoOf(error_), 0);
  EXPECT_EQ(copy_, std::string(80'000, 'b'));
}

TEST_F(SimProcessMemoryTest, ADeadProcessHasNoMemory) {
  world_->At(5 * kMicrosecond, {1, 1},
             [this] { world_->Crash(world_.node(1)); });
  Read();
  EXPECT_EQ(ErrnoOf(error_), ESRCH);
  EXPECT_EQ(copy_, std::string(80'000, ' '));
}

TEST_F(SimProcessMemoryTest, APausedOneHas) {
  world_->scheduler().Pause(world_.node(1));
  Read();
  EXPECT_EQ(ErrnoOf(error_), 0);
  EXPECT_EQ(copy_, text_);
}

TEST_F(SimProcessMemoryTest, AnotherHostHasOthers) {
  Read(/*host_of_owner=*/1);
  EXPECT_EQ(ErrnoOf(error_), ESRCH);
}

TEST_F(SimProcessMemoryTest, WhatIsNotMappedFails) {
  void* const gone = mmap(nullptr, text_.size(), PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(gone, MAP_FAILED);
  from_ = static_cast<const char*>(gone);
  Read();
  EXPECT_EQ(ErrnoOf(error_), EFAULT);
  munmap(gone, text_.size());
}

}  // namespace
}  // namespace reprise

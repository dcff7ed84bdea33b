// One directory, several processes, some of which are killed.

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/runtime/runtime.h"
#include "agent/store/file_store.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/store/child_process.h"
#include "tests/unit/store/temporary_directory.h"

namespace reprise {
namespace {

using testing::HasSubstr;

absl::Time Later() { return RealRuntime().Now() + absl::Minutes(5); }
absl::Time Soon() { return RealRuntime().Now() + absl::Milliseconds(20); }

class FileStoreProcessesTest : public testing::Test {
 protected:
  std::shared_ptr<Store> Open() {
    auto store = OpenFileStore(RealRuntime(), directory_.path());
    return store.ok() ? *store : nullptr;
  }
  std::string path(const std::string& name) {
    return directory_.path() + "/" + name;
  }

 private:
  const TemporaryDirectory directory_;
};

// Values of which a part, or a mixture, can be told from the whole: as many
// kilobytes of a letter as its place in the alphabet.
std::string Whole(int64_t i) {
  const int letter = static_cast<int>(i % 16);
  return std::string(size_t{1024} * (letter + 1),
                     static_cast<char>('a' + letter));
}

bool IsWhole(const std::string& value) {
  return !value.empty() && value == Whole(value[0] - 'a');
}

TEST_F(FileStoreProcessesTest, AllAddsCount) {
  constexpr int kProcesses = 4;
  constexpr int kAdds = 500;
  std::vector<std::unique_ptr<ChildProcess>> children;
  for (int i = 0; i < kProcesses; ++i) {
    children.push_back(std::make_unique<ChildProcess>([&] {
      const auto store = Open();
      ExpectInChild(store != nullptr);
      int64_t last = 0;
      for (int j = 0; j < kAdds; ++j) {
        const auto sum = store->Add("count", 1, Later());
        ExpectInChild(sum.ok() && *sum > last);
        last = *sum;
      }
    }));
  }
  for (const auto& child : children) EXPECT_EQ(child->Wait(), 0);
  EXPECT_EQ(Open()->TryGet("count", Later()).value_or(""),
            std::to_string(kProcesses * kAdds));
}

TEST_F(FileStoreProcessesTest, GetWaitsForAnotherProcess) {
  ChildProcess child([&] {
    const auto store = Open();
    ExpectInChild(store->Get("question", Later()).value_or("") == "?");
    ExpectInChild(store->Set("answer", "!", Later()).ok());
  });
  const auto store = Open();
  ASSERT_TRUE(store->Set("question", "?", Later()).ok());
  EXPECT_EQ(store->Get("answer", Later()).value_or(""), "!");
  EXPECT_EQ(child.Wait(), 0);
}

// A writer is killed again and again, wherever it happens to be.
TEST_F(FileStoreProcessesTest, SurvivesAKilledWriter) {
  constexpr int kKills = 50;
  const auto store = Open();
  int64_t count = 0;
  for (int kill = 0; kill < kKills; ++kill) {
    ChildProcess writer([&] {
      const auto own = Open();
      ExpectInChild(own != nullptr);
      std::string token = own->TryGet("token", Later()).value_or("");
      for (int64_t i = kill;; ++i) {
        ExpectInChild(own->Set("set", Whole(i), Later()).ok());
        const auto swapped = own->CompareSet("token", token, Whole(i), Later());
        ExpectInChild(swapped.ok() && *swapped == Whole(i));
        token = *swapped;
        ExpectInChild(own->Add("count", 1, Later()).ok());
      }
    });
    // The writer has gone round at least once, and may be anywhere when it
    // dies.
    int64_t now = count;
    while (now <= count + kill % 3) {
      const auto value = store->Get("count", Later());
      ASSERT_TRUE(value.ok()) << value.status();
      ASSERT_TRUE(absl::SimpleAtoi(*value, &now)) << *value;
      ASSERT_GE(now, count);
      // A reader never sees a part of a value either.
      for (const char* key : {"set", "token"}) {
        const auto seen = store->TryGet(key, Later());
        if (absl::IsNotFound(seen.status())) continue;
        ASSERT_TRUE(seen.ok()) << seen.status();
        ASSERT_TRUE(IsWhole(*seen)) << key;
      }
    }
    writer.Kill();

    const auto final_count = store->Add("count", 0, Later());
    ASSERT_TRUE(final_count.ok()) << final_count.status();
    EXPECT_GE(*final_count, now);
    count = *final_count;
    EXPECT_EQ(store->TryGet("count", Later()).value_or(""),
              absl::StrCat(count));
    const std::string set = store->TryGet("set", Later()).value_or("");
    EXPECT_TRUE(IsWhole(set)) << set.size();
    const std::string token = store->TryGet("token", Later()).value_or("");
    EXPECT_TRUE(IsWhole(token)) << token.size();
    EXPECT_EQ(store->CompareSet("token", token, "a", Later()).value_or(""),
              "a");
    EXPECT_EQ(store->CompareSet("token", "a", token, Later()).value_or(""),
              token);
    EXPECT_TRUE(store->Set("mine", Whole(kill), Later()).ok());
    EXPECT_EQ(store->TryGet("mine", Later()).value_or(""), Whole(kill));
  }
}

TEST_F(FileStoreProcessesTest, ADeadHolderOfTheLockIsNoObstacle) {
  const auto store = Open();
  std::array<int, 2> locked;
  ASSERT_EQ(pipe(locked.data()), 0);
  ChildProcess holder([&] {
    const int fd = open(path("lock").c_str(), O_RDWR);
    ExpectInChild(fd >= 0 && flock(fd, LOCK_EX) == 0);
    ExpectInChild(write(locked[1], "x", 1) == 1);
    for (;;) pause();
  });
  close(locked[1]);
  char byte;
  ASSERT_EQ(read(locked[0], &byte, 1), 1);
  close(locked[0]);

  // While the holder lives it keeps others out, but no longer than they want to
  // wait.
  const absl::Time deadline = Soon();
  const absl::Status status = store->Set("key", "value", deadline);
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(path("lock")));
  EXPECT_GE(RealRuntime().Now(), deadline);
  EXPECT_EQ(store->Add("n", 1, Soon()).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(absl::IsNotFound(store->TryGet("key", Later()).status()));
  EXPECT_NE(Open(), nullptr);

  holder.Kill();
  EXPECT_TRUE(store->Set("key", "value", Later()).ok());
  EXPECT_EQ(store->TryGet("key", Later()).value_or(""), "value");
}

// A child that was forked while a thread held the lock has its descriptor too.
TEST_F(FileStoreProcessesTest, AForkedChildDoesNotKeepTheLock) {
  constexpr int kForks = 50;
  const auto store = Open();
  const auto writer = RealRuntime().StartThread("writer", [&] {
    for (;;) {
      EXPECT_TRUE(store->Set("key", "value", Later()).ok());
      if (store->TryGet("stop", Later()).ok()) return;
    }
  });
  std::vector<std::unique_ptr<ChildProcess>> children;
  for (int i = 0; i < kForks; ++i) {
    ASSERT_TRUE(store->Get("key", Later()).ok());
    children.push_back(std::make_unique<ChildProcess>([] {
      for (;;) pause();
    }));
  }
  EXPECT_TRUE(store->Set("stop", "", Later()).ok());
  writer->Join();
  EXPECT_TRUE(store->Set("key", "value", Later()).ok());
}

}  // namespace
}  // namespace reprise

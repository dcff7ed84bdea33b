// What a file store does beyond the contract, in one process: its files, its
// errors, and what it does about a directory that is not as it should be.

#include "agent/store/file_store.h"

#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/runtime/runtime.h"
#include "agent/store/file_key.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/store/child_process.h"
#include "tests/unit/store/temporary_directory.h"

namespace reprise {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

absl::Time Later() { return RealRuntime().Now() + absl::Minutes(5); }
absl::Time Soon() { return RealRuntime().Now() + absl::Milliseconds(20); }

std::shared_ptr<Store> OpenOrDie(const std::string& directory) {
  auto store = OpenFileStore(RealRuntime(), directory);
  EXPECT_TRUE(store.ok()) << store.status();
  return store.ok() ? *store : nullptr;
}

std::set<std::string> FilesIn(const std::string& directory) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    names.insert(entry.path().filename().string());
  }
  return names;
}

std::string Content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

void WriteFile(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

// Sleeps take no time, but the clock moves.
class SleeplessRuntime : public Runtime {
 public:
  absl::Time Now() override { return now_; }
  void SleepUntil(absl::Time deadline) override {
    sleeps.push_back(deadline - now_);
    now_ = deadline;
    if (after_sleep) after_sleep();
  }
  std::unique_ptr<Thread> StartThread(std::string,
                                      absl::AnyInvocable<void()>) override {
    return nullptr;
  }
  uint64_t RandomBits() override { return 0; }
  const void* CurrentThread() override { return this; }

  std::vector<absl::Duration> sleeps;
  std::function<void()> after_sleep;

 private:
  void Lock(Mutex&) override {}
  void Unlock(Mutex&) override {}
  bool Wait(CondVar&, Mutex&, absl::Time) override { return false; }
  void Notify(CondVar&, bool) override {}

  absl::Time now_ = absl::UnixEpoch();
};

TEST(KeyFileNameTest, EncodesWhatIsNoLetter) {
  EXPECT_EQ(KeyFileName("names/0"), "key-names%2F0");
  EXPECT_EQ(KeyFileName(""), "key-");
  EXPECT_EQ(KeyFileName("../A-z_9%~"), "key-..%2FA-z_9%25%7E");
  EXPECT_EQ(KeyFileName(std::string("\0\xff", 2)), "key-%00%FF");
}

TEST(KeyFileNameTest, HashesWhatIsTooLong) {
  const std::string fits(kMaxKeyFileNameBytes - 4, 'k');
  EXPECT_EQ(KeyFileName(fits), "key-" + fits);
  const std::string long_key = fits + "k";
  EXPECT_EQ(KeyFileName(long_key), "key-" + std::string(60, 'k') + "~" +
                                       "aa381c06f469846a575bb1fb67ed8c7d"
                                       "cab0f67583a8c3efb85dcf389bca1212");
  // The encoded name counts.
  EXPECT_THAT(KeyFileName(std::string(50, '/')),
              HasSubstr("~"
                        "0eaf9cb24d6a30e72c4bcd68d30872cb"
                        "a15c3d16b0cf06624f40164ea661096e"));
  for (size_t length = 0; length < 1000; ++length) {
    EXPECT_LE(KeyFileName(std::string(length, '/')).size(),
              kMaxKeyFileNameBytes);
  }
}

TEST(FileStoreTest, MakesItsDirectoryAndItsParents) {
  const TemporaryDirectory root;
  const std::string directory = root.path() + "/a/b/c/";
  const auto store = OpenOrDie(directory);
  ASSERT_TRUE(store->Set("names/0", "worker0", Later()).ok());
  EXPECT_THAT(FilesIn(directory), ElementsAre("key-names%2F0", "lock"));
  EXPECT_EQ(Content(directory + "/key-names%2F0"), "worker0");
}

TEST(FileStoreTest, ContentOutlivesTheStore) {
  const TemporaryDirectory root;
  ASSERT_TRUE(OpenOrDie(root.path())->Set("key", "value", Later()).ok());
  EXPECT_EQ(OpenOrDie(root.path())->TryGet("key", Later()).value_or(""),
            "value");
}

TEST(FileStoreTest, ARelativeDirectoryStaysWhereItWas) {
  const TemporaryDirectory root;
  EXPECT_EQ(RunInChild([&] {
              ExpectInChild(chdir(root.path().c_str()) == 0);
              const auto store = OpenFileStore(RealRuntime(), "here");
              ExpectInChild(store.ok());
              ExpectInChild(chdir("/") == 0);
              ExpectInChild((*store)->Set("key", "value", Later()).ok());
            }),
            0);
  EXPECT_EQ(Content(root.path() + "/here/key-key"), "value");
}

TEST(FileStoreTest, OpeningRemovesWhatDeadWritersLeft) {
  const TemporaryDirectory root;
  const auto store = OpenOrDie(root.path());
  ASSERT_TRUE(store->Set("key", "value", Later()).ok());
  // This holds even for the id of a process that lives, as after a reboot.
  const std::string own = "tmp-" + std::to_string(getpid()) + "-0";
  WriteFile(root.path() + "/" + own, "half");
  WriteFile(root.path() + "/tmp-1-0", "half");
  ASSERT_TRUE(store->Set("key2", "whole", Later()).ok());
  EXPECT_EQ(store->TryGet("key2", Later()).value_or(""), "whole");
  EXPECT_THAT(FilesIn(root.path()),
              ElementsAre("key-key", "key-key2", "lock", "tmp-1-0", own));
  OpenOrDie(root.path());
  EXPECT_THAT(FilesIn(root.path()), ElementsAre("key-key", "key-key2", "lock"));
  EXPECT_EQ(Content(root.path() + "/key-key2"), "whole");
}

TEST(FileStoreTest, GetPollsLessAndLessOftenUntilItsDeadline) {
  const TemporaryDirectory root;
  SleeplessRuntime runtime;
  const auto store = OpenFileStore(runtime, root.path());
  ASSERT_TRUE(store.ok()) << store.status();
  const absl::Time deadline = runtime.Now() + absl::Milliseconds(30);
  EXPECT_EQ((*store)->Get("key", deadline).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(runtime.Now(), deadline);
  // The last pause is cut off by the deadline.
  EXPECT_THAT(runtime.sleeps,
              ElementsAre(absl::Microseconds(200), absl::Microseconds(400),
                          absl::Microseconds(800), absl::Microseconds(1600),
                          absl::Microseconds(3200), absl::Microseconds(6400),
                          absl::Milliseconds(10), absl::Microseconds(7400)));
}

TEST(FileStoreTest, GetLooksOnceMoreAtItsDeadline) {
  const TemporaryDirectory root;
  SleeplessRuntime runtime;
  const auto store = OpenFileStore(runtime, root.path());
  ASSERT_TRUE(store.ok()) << store.status();
  const absl::Time deadline = runtime.Now() + absl::Milliseconds(30);
  runtime.after_sleep = [&] {
    if (runtime.Now() == deadline) WriteFile(root.path() + "/key-key", "late");
  };
  EXPECT_EQ((*store)->Get("key", deadline).value_or(""), "late");
}

TEST(FileStoreTest, NoNameOfADirectory) {
  for (const std::string& name : {std::string(), std::string("/tmp\0x", 6)}) {
    EXPECT_EQ(OpenFileStore(RealRuntime(), name).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST(FileStoreTest, AFileInTheWayOfTheDirectory) {
  const TemporaryDirectory root;
  const std::string file = root.path() + "/file";
  WriteFile(file, "");
  for (const std::string& directory : {file, file + "/below"}) {
    const absl::Status status =
        OpenFileStore(RealRuntime(), directory).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(directory));
  }
}

TEST(FileStoreTest, TheDirectoryVanishesAndComesBack) {
  const TemporaryDirectory root;
  const std::string directory = root.path() + "/gone";
  const auto store = OpenOrDie(directory);
  ASSERT_TRUE(store->Set("key", "1", Later()).ok());
  std::filesystem::remove_all(directory);
  for (const absl::Status& status :
       {store->Set("key", "2", Later()), store->Get("key", Later()).status(),
        store->TryGet("key", Later()).status(),
        store->CompareSet("key", "", "2", Later()).status(),
        store->Add("key", 1, Later()).status(),
        store->Delete("key", Later()).status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(directory));
  }
  std::filesystem::create_directory(directory);
  EXPECT_EQ(store->Add("key", 1, Later()).value_or(0), 1);
}

TEST(FileStoreTest, NoPermission) {
  const TemporaryDirectory root;
  const std::string directory = root.path() + "/closed";
  const auto store = OpenOrDie(directory);
  ASSERT_TRUE(store->Set("key", "1", Later()).ok());
  ASSERT_EQ(chmod(directory.c_str(), 0), 0);
  EXPECT_EQ(
      RunInChild([&] {
        // Root may do anything, unless it gives that up.
        __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
        const __user_cap_data_struct none[2] = {};
        ExpectInChild(syscall(SYS_capset, &header, none) == 0);
        for (const absl::Status& status :
             {store->Set("key", "2", Later()),
              store->Get("key", Later()).status(),
              OpenFileStore(RealRuntime(), directory).status()}) {
          ExpectInChild(absl::IsPermissionDenied(status));
          ExpectInChild(status.message().find(directory) != std::string::npos);
        }
      }),
      0);
  ASSERT_EQ(chmod(directory.c_str(), 0700), 0);
}

TEST(FileStoreTest, AWriteThatFailsLeavesTheOldValue) {
  const TemporaryDirectory root;
  const auto store = OpenOrDie(root.path());
  ASSERT_TRUE(store->Set("key", "old", Later()).ok());
  EXPECT_EQ(RunInChild([&] {
              // This stands for a full disk: only the first 1000 bytes can be
              // written.
              signal(SIGXFSZ, SIG_IGN);
              const rlimit limit = {1000, 1000};
              ExpectInChild(setrlimit(RLIMIT_FSIZE, &limit) == 0);
              const absl::Status status =
                  store->Set("key", std::string(100000, 'x'), Later());
              ExpectInChild(!status.ok());
              ExpectInChild(status.message().find(root.path() + "/tmp-") !=
                            std::string::npos);
              ExpectInChild(store->Set("key2", "short", Later()).ok());
            }),
            0);
  EXPECT_EQ(store->TryGet("key", Later()).value_or(""), "old");
  EXPECT_EQ(store->TryGet("key2", Later()).value_or(""), "short");
  EXPECT_THAT(FilesIn(root.path()), ElementsAre("key-key", "key-key2", "lock"));
}

TEST(FileStoreTest, NoDescriptorsLeft) {
  const TemporaryDirectory root;
  const auto store = OpenOrDie(root.path());
  ASSERT_TRUE(store->Set("key", "old", Later()).ok());
  EXPECT_EQ(
      RunInChild([&] {
        const rlimit limit = {0, 0};
        ExpectInChild(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        // Which passes, so an agent tries again.
        ExpectInChild(absl::IsUnavailable(store->Set("key", "new", Later())));
        ExpectInChild(absl::IsUnavailable(store->Get("key", Later()).status()));
      }),
      0);
  EXPECT_EQ(store->TryGet("key", Later()).value_or(""), "old");
}

TEST(FileStoreTest, CallsLeaveNoDescriptorOpen) {
  const TemporaryDirectory root;
  const size_t before = FilesIn("/proc/self/fd").size();
  const auto store = OpenOrDie(root.path());
  EXPECT_TRUE(store->Set("key", "1", Later()).ok());
  EXPECT_TRUE(store->Add("key", 1, Later()).ok());
  EXPECT_TRUE(store->CompareSet("key", "2", "3", Later()).ok());
  EXPECT_TRUE(store->Get("key", Later()).ok());
  EXPECT_FALSE(store->Get("none", Soon()).ok());
  EXPECT_TRUE(store->Delete("key", Later()).ok());
  EXPECT_EQ(FilesIn("/proc/self/fd").size(), before);
}

TEST(FileStoreTest, SomethingElseInAKeysPlace) {
  const TemporaryDirectory root;
  const auto store = OpenOrDie(root.path());
  std::filesystem::create_directory(root.path() + "/key-directory");
  std::filesystem::create_symlink("lock", root.path() + "/key-link");
  ASSERT_EQ(mkfifo((root.path() + "/key-pipe").c_str(), 0600), 0);
  for (const std::string key : {"directory", "link", "pipe"}) {
    const std::string path = root.path() + "/key-" + key;
    const absl::Status read = store->Get(key, Later()).status();
    EXPECT_FALSE(read.ok()) << key;
    EXPECT_THAT(std::string(read.message()), HasSubstr(path));
    EXPECT_FALSE(store->Add(key, 1, Later()).ok()) << key;
  }
  EXPECT_FALSE(store->Delete("directory", Later()).ok());
  // A file can be replaced, whatever it is.
  EXPECT_TRUE(store->Set("link", "value", Later()).ok());
  EXPECT_TRUE(store->Set("pipe", "value", Later()).ok());
  EXPECT_EQ(Content(root.path() + "/lock"), "");
}

TEST(FileStoreTest, AValueThatIsTooLong) {
  const TemporaryDirectory root;
  const auto store = OpenOrDie(root.path());
  const std::string path = root.path() + "/key-key";
  WriteFile(path, "");
  // The file is sparse, so it takes no room.
  std::filesystem::resize_file(path, kMaxFileStoreValueBytes + 1);
  const absl::Status read = store->Get("key", Later()).status();
  EXPECT_EQ(read.code(), absl::StatusCode::kInvalidArgument) << read;
  EXPECT_THAT(std::string(read.message()), HasSubstr(path));
  const std::string longest(kMaxFileStoreValueBytes, 'x');
  EXPECT_EQ(store->Set("key", longest + "x", Later()).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(store->Set("key", longest, Later()).ok());
  EXPECT_TRUE(store->Get("key", Later()).value_or("") == longest);
}

TEST(FileStoreTest, ANonNumericCounterIsNamed) {
  const TemporaryDirectory root;
  const auto store = OpenOrDie(root.path());
  ASSERT_TRUE(store->Set("count", "many", Later()).ok());
  const absl::Status status = store->Add("count", 1, Later()).status();
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(root.path() + "/key-count"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("\"many\""));
}

}  // namespace
}  // namespace reprise

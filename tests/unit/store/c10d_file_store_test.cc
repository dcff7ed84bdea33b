// What the store in PyTorch's file does beyond the contract: its bytes, and
// what it does about a file that is not as it should be. That PyTorch's own
// store reads and writes the same file is in tests/interop.

#include "agent/store/c10d_file_store.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/runtime/runtime.h"
#include "agent/store/c10d_file_log.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/store/child_process.h"
#include "tests/unit/store/temporary_directory.h"

namespace reprise {
namespace {

using testing::HasSubstr;

constexpr absl::Time kNever = absl::InfiniteFuture();

absl::Time Later() { return RealRuntime().Now() + absl::Minutes(5); }

class C10dFileStoreTest : public testing::Test {
 protected:
  std::string path() const { return root_.path() + "/file"; }

  std::shared_ptr<Store> Open() const {
    auto store = OpenC10dFileStore(RealRuntime(), path());
    EXPECT_TRUE(store.ok()) << store.status();
    return *std::move(store);
  }

  std::string Content() const {
    std::ifstream file(path(), std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }

  void Append(const std::string& bytes) const {
    std::ofstream(path(), std::ios::binary | std::ios::app) << bytes;
  }

 private:
  const TemporaryDirectory root_;
};

// As PyTorch 1.13.1 wrote it, when it was asked the same.
const std::string kStockFile(
    "\2\0\0\0/k\2\0\0\0vv"
    "\2\0\0\0/c\1\0\0\0x"
    "\2\0\0\0/n\1\0\0\0005"
    "\3\0\0\0-/k\0\0\0\0",
    45);

TEST_F(C10dFileStoreTest, WritesWhatPyTorchWrites) {
  const auto store = Open();
  ASSERT_TRUE(store->Set("k", "vv", kNever).ok());
  EXPECT_EQ(store->CompareSet("c", "", "x", kNever).value_or(""), "x");
  EXPECT_EQ(store->CompareSet("c", "q", "y", kNever).value_or(""), "x");
  EXPECT_EQ(store->CompareSet("zz", "q", "y", kNever).value_or(""), "q");
  EXPECT_EQ(store->Add("n", 5, kNever).value_or(0), 5);
  EXPECT_TRUE(store->Delete("k", kNever).value_or(false));
  EXPECT_EQ(Content(), kStockFile);
}

TEST_F(C10dFileStoreTest, ReadsWhatPyTorchWrites) {
  Append(kStockFile);
  // Its books, which are no keys.
  Append(C10dFileRecord("", "cleanup/", "1"));
  const auto store = Open();
  EXPECT_TRUE(absl::IsNotFound(store->TryGet("k", kNever).status()));
  EXPECT_EQ(store->TryGet("c", kNever).value_or(""), "x");
  EXPECT_EQ(store->Add("n", 2, kNever).value_or(0), 7);
  EXPECT_TRUE(absl::IsNotFound(store->TryGet("cleanup/", kNever).status()));
}

TEST_F(C10dFileStoreTest, AFileThatWasMadeAnewIsReadAnew) {
  const auto store = Open();
  ASSERT_TRUE(store->Set("k", "old", kNever).ok());
  // The last stock worker removes it.
  std::filesystem::remove(path());
  EXPECT_TRUE(absl::IsNotFound(store->TryGet("k", kNever).status()));
  ASSERT_TRUE(store->Set("k", "new", kNever).ok());
  EXPECT_EQ(Open()->TryGet("k", kNever).value_or(""), "new");
  std::filesystem::resize_file(path(), 0);
  EXPECT_TRUE(absl::IsNotFound(store->TryGet("k", kNever).status()));
}

// A file system may give it the inode of the one before.
TEST_F(C10dFileStoreTest, AFileThatWasMadeAnewAndHasGrownIsReadAnew) {
  for (const std::string value : {"new", "a new value"}) {
    std::ofstream(path(), std::ios::binary | std::ios::trunc)
        << C10dFileRecord("/", "k", "old");
    const auto store = Open();
    EXPECT_EQ(*store->TryGet("k", Later()), "old");
    std::ofstream(path(), std::ios::binary | std::ios::trunc)
        << C10dFileRecord("/", "k", value);
    EXPECT_EQ(*store->TryGet("k", Later()), value);
  }
}

TEST_F(C10dFileStoreTest, WhatIsNoSuchFileIsLeftAlone) {
  const std::string text = "root:x:0:0:root:/root:/bin/bash\n";
  Append(text);
  const auto store = Open();
  for (const absl::Status& status :
       {store->Set("k", "v", kNever), store->TryGet("k", kNever).status(),
        store->Get("k", kNever).status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(path()));
    EXPECT_THAT(std::string(status.message()), HasSubstr("another file"));
  }
  EXPECT_EQ(Content(), text);
}

TEST_F(C10dFileStoreTest, ARecordThatWasCutOffIsAnErrorAtEachOfItsBytes) {
  for (size_t length = 1; length < kStockFile.size(); ++length) {
    std::filesystem::remove(path());
    Append(kStockFile.substr(0, length));
    const bool is_whole = length == 12 || length == 23 || length == 34;
    const absl::Status status = Open()->Set("x", "y", kNever);
    EXPECT_EQ(status.ok(), is_whole) << length;
    if (!is_whole) {
      EXPECT_THAT(std::string(status.message()), HasSubstr("cut off"));
      EXPECT_EQ(Content().size(), length);
    }
  }
}

TEST_F(C10dFileStoreTest, WhatDoesNotFitOnTheDiskLeavesNothing) {
  const auto store = Open();
  ASSERT_TRUE(store->Set("k", "v", kNever).ok());
  const std::string before = Content();
  EXPECT_EQ(
      RunInChild([&] {
        signal(SIGXFSZ, SIG_IGN);
        const rlimit limit = {before.size() + 100, before.size() + 100};
        setrlimit(RLIMIT_FSIZE, &limit);
        ExpectInChild(!store->Set("k", std::string(200, 'x'), kNever).ok());
        ExpectInChild(store->Set("l", "fits", kNever).ok());
      }),
      0);
  EXPECT_EQ(Content(), before + C10dFileRecord("/", "l", "fits"));
  EXPECT_EQ(store->TryGet("k", kNever).value_or(""), "v");
}

TEST_F(C10dFileStoreTest, ErrorsNameTheFile) {
  std::filesystem::create_directory(path());
  const absl::Status status = Open()->Set("k", "v", kNever);
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr(path()));
  const auto nowhere = OpenC10dFileStore(RealRuntime(), path() + "/a/b");
  ASSERT_TRUE(nowhere.ok());
  EXPECT_EQ((*nowhere)->TryGet("k", kNever).status().code(),
            absl::StatusCode::kUnavailable);
}

// A lock that is held for ever bounds no call.
TEST_F(C10dFileStoreTest, ALockedFileIsWaitedForUntilTheDeadline) {
  const auto store = Open();
  ASSERT_TRUE(store->Set("k", "v", kNever).ok());
  const int fd = open(path().c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(flock(fd, LOCK_EX), 0);
  const absl::Status status =
      store->Set("k", "w", RealRuntime().Now() + absl::Milliseconds(20));
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("locked"));
  flock(fd, LOCK_UN);
  close(fd);
  EXPECT_TRUE(store->Set("k", "w", Later()).ok());
}

// Processes that count in the file, some of which are killed while they do.
TEST_F(C10dFileStoreTest, ProcessesCountTogether) {
  constexpr int kProcesses = 4;
  constexpr int kCounts = 200;
  std::vector<std::unique_ptr<ChildProcess>> children;
  for (int i = 0; i < kProcesses; ++i) {
    children.push_back(std::make_unique<ChildProcess>([&] {
      const auto store = Open();
      for (int n = 0; n < kCounts; ++n) {
        ExpectInChild(store->Add("n", 1, Later()).ok());
      }
    }));
  }
  ChildProcess killed([&] {
    const auto store = Open();
    while (store->Add("m", 1, Later()).ok()) {
    }
  });
  ASSERT_TRUE(Open()->Get("m", Later()).ok());
  killed.Kill();
  for (const auto& child : children) EXPECT_EQ(child->Wait(), 0);
  EXPECT_EQ(Open()->Add("n", 0, kNever).value_or(0), kProcesses * kCounts);
}

}  // namespace
}  // namespace reprise

// The disk that is a folder: the contract of every disk, and what only a folder
// does.

#include "agent/disk/folder_disk.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/disk/disk_contract.h"
#include "tests/unit/store/temporary_directory.h"

namespace reprise {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

INSTANTIATE_TEST_SUITE_P(Folder, DiskContractTest,
                         testing::Values([](std::function<void(Disk&)> body) {
                           TemporaryDirectory directory;
                           body(*MakeFolderDisk(directory.path() + "/a/b"));
                         }));

TEST(FolderDiskTest, LeavesAloneWhatIsNoFileOfItsOwn) {
  TemporaryDirectory directory;
  const std::string path = directory.path() + "/disk";
  std::filesystem::create_directories(path + "/folder");
  std::ofstream(directory.path() + "/secret") << "secret";
  std::filesystem::create_symlink("../secret", path + "/link");
  ASSERT_EQ(mkfifo((path + "/fifo").c_str(), 0600), 0);
  const auto disk = MakeFolderDisk(path);
  EXPECT_TRUE(disk->Write("file", "x").ok());
  EXPECT_THAT(*disk->List(), ElementsAre("file"));
  for (const char* name : {"folder", "link", "fifo"}) {
    EXPECT_TRUE(absl::IsUnavailable(disk->Read(name).status())) << name;
    EXPECT_TRUE(absl::IsUnavailable(disk->Write(name, "y"))) << name;
  }
  std::ifstream secret(directory.path() + "/secret");
  std::string text;
  secret >> text;
  EXPECT_EQ(text, "secret");
}

TEST(FolderDiskTest, SaysWhatIsWrongWithTheFolder) {
  TemporaryDirectory directory;
  std::ofstream(directory.path() + "/file") << "x";
  const auto disk = MakeFolderDisk(directory.path() + "/file");
  const absl::Status status = disk->Write("a", "x");
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("/file"));
  EXPECT_TRUE(absl::IsUnavailable(disk->List().status()));
  EXPECT_TRUE(absl::IsUnavailable(disk->SyncNames()));
}

TEST(FolderDiskTest, ReadsNothingThatIsTooLarge) {
  TemporaryDirectory directory;
  const auto disk = MakeFolderDisk(directory.path(), /*max_file_bytes=*/4);
  EXPECT_TRUE(disk->Write("a", "1234").ok());
  EXPECT_EQ(*disk->Read("a"), "1234");
  EXPECT_TRUE(disk->Write("a", "12345").ok());
  EXPECT_TRUE(absl::IsResourceExhausted(disk->Read("a").status()));
}

// A limit on the size of files stands for a full disk.
TEST(FolderDiskTest, AFullDiskLeavesTheFileThatIsReplaced) {
  TemporaryDirectory directory;
  const auto disk = MakeFolderDisk(directory.path());
  ASSERT_TRUE(ReplaceFile(*disk, "a", "earlier").ok());
  const auto before = signal(SIGXFSZ, SIG_IGN);
  rlimit limit;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
  rlimit lower = limit;
  lower.rlim_cur = 1000;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &lower), 0);
  const absl::Status status = ReplaceFile(*disk, "a", std::string(2000, 'x'));
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  signal(SIGXFSZ, before);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_EQ(*disk->Read("a"), "earlier");
  EXPECT_EQ(disk->Read("a.new")->size(), 1000u);
  EXPECT_TRUE(ReplaceFile(*disk, "a", "later").ok());
  EXPECT_EQ(*disk->Read("a"), "later");
}

}  // namespace
}  // namespace reprise

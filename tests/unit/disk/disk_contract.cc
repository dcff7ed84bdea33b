#include "tests/unit/disk/disk_contract.h"

#include <string>

#include "absl/status/status.h"
#include "gmock/gmock.h"

namespace reprise {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST_P(DiskContractTest, IsEmptyAtFirst) {
  GetParam()([](Disk& disk) {
    EXPECT_THAT(*disk.List(), IsEmpty());
    EXPECT_TRUE(absl::IsNotFound(disk.Read("a").status()));
    EXPECT_TRUE(absl::IsNotFound(disk.Sync("a")));
    EXPECT_TRUE(absl::IsNotFound(disk.Rename("a", "b")));
    EXPECT_TRUE(absl::IsNotFound(disk.Remove("a")));
    EXPECT_TRUE(disk.SyncNames().ok());
  });
}

TEST_P(DiskContractTest, KeepsWhatIsWritten) {
  GetParam()([](Disk& disk) {
    const std::string bytes("\0\n\xff", 3);
    EXPECT_TRUE(disk.Write("a", bytes).ok());
    EXPECT_EQ(*disk.Read("a"), bytes);
    EXPECT_TRUE(disk.Append("a", "more").ok());
    EXPECT_EQ(*disk.Read("a"), bytes + "more");
    EXPECT_TRUE(disk.Sync("a").ok());
    EXPECT_TRUE(disk.Write("a", "").ok());
    EXPECT_EQ(*disk.Read("a"), "");
    EXPECT_TRUE(disk.Append("b.c_d-E9", "new").ok());
    EXPECT_THAT(*disk.List(), ElementsAre("a", "b.c_d-E9"));
    const std::string large(3'000'001, 'x');
    EXPECT_TRUE(disk.Write("a", large).ok());
    EXPECT_EQ(*disk.Read("a"), large);
  });
}

TEST_P(DiskContractTest, RenamesInPlaceOfAnother) {
  GetParam()([](Disk& disk) {
    EXPECT_TRUE(disk.Write("a", "first").ok());
    EXPECT_TRUE(disk.Write("b", "second").ok());
    EXPECT_TRUE(disk.Rename("b", "a").ok());
    EXPECT_EQ(*disk.Read("a"), "second");
    EXPECT_THAT(*disk.List(), ElementsAre("a"));
    EXPECT_TRUE(disk.Rename("a", "a").ok());
    EXPECT_EQ(*disk.Read("a"), "second");
    EXPECT_TRUE(disk.Remove("a").ok());
    EXPECT_THAT(*disk.List(), IsEmpty());
  });
}

TEST_P(DiskContractTest, RefusesNamesThatNoFileCanHave) {
  GetParam()([](Disk& disk) {
    EXPECT_TRUE(disk.Write("a", "kept").ok());
    for (const std::string& name :
         {std::string(), std::string("."), std::string(".."),
          std::string("a/b"), std::string("/a"), std::string("a b"),
          std::string("a\0", 2), std::string("\xc3\xa4"),
          std::string(201, 'a')}) {
      EXPECT_TRUE(absl::IsInvalidArgument(disk.Read(name).status())) << name;
      EXPECT_TRUE(absl::IsInvalidArgument(disk.Write(name, "x"))) << name;
      EXPECT_TRUE(absl::IsInvalidArgument(disk.Append(name, "x"))) << name;
      EXPECT_TRUE(absl::IsInvalidArgument(disk.Sync(name))) << name;
      EXPECT_TRUE(absl::IsInvalidArgument(disk.Remove(name))) << name;
      EXPECT_TRUE(absl::IsInvalidArgument(disk.Rename(name, "b"))) << name;
      EXPECT_TRUE(absl::IsInvalidArgument(disk.Rename("a", name))) << name;
      EXPECT_TRUE(absl::IsInvalidArgument(ReplaceFile(disk, name, "x")))
          << name;
    }
    EXPECT_THAT(*disk.List(), ElementsAre("a"));
    EXPECT_EQ(*disk.Read("a"), "kept");
  });
}

TEST_P(DiskContractTest, ReplacesAFileAndLeavesNoOther) {
  GetParam()([](Disk& disk) {
    EXPECT_TRUE(ReplaceFile(disk, "a", "first").ok());
    EXPECT_EQ(*disk.Read("a"), "first");
    EXPECT_TRUE(disk.Write("a.new", "left by one that died").ok());
    EXPECT_TRUE(ReplaceFile(disk, "a", "second").ok());
    EXPECT_EQ(*disk.Read("a"), "second");
    EXPECT_THAT(*disk.List(), ElementsAre("a"));
  });
}

}  // namespace
}  // namespace reprise

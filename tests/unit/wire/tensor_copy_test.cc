#include "agent/wire/tensor_copy.h"

#include <cstring>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "tests/unit/wire/wire_testing.h"

namespace reprise {
namespace {

using Sizes = std::vector<int64_t>;

TEST(IsWorthCopyingTest, HasPyTorchsThresholds) {
  const Tensor large = Iota({2048});  // 8 KiB
  EXPECT_FALSE(IsWorthCopying(large));
  EXPECT_TRUE(IsWorthCopying(View(large, {1024}, {1}, 0)));
  EXPECT_FALSE(IsWorthCopying(View(large, {1025}, {1}, 0)));
  EXPECT_TRUE(IsWorthCopying(View(large, {0}, {1}, 0)));
  const Tensor small = Iota({2047});
  EXPECT_FALSE(IsWorthCopying(View(small, {1}, {1}, 0)));
}

TEST(IsWorthCopyingTest, ExpandedTensorsAreNot) {
  const Tensor large = Iota({4096});
  EXPECT_FALSE(IsWorthCopying(View(large, {1 << 20, 1 << 20}, {0, 0}, 0)));
  // The size of this view in bytes does not fit 64 bits.
  EXPECT_FALSE(IsWorthCopying(View(large, {int64_t{1} << 62}, {0}, 0)));
}

TEST(CopyContiguousTest, CopiesRuns) {
  const Tensor matrix = Iota({4, 5});
  auto copy = CopyContiguous(View(matrix, {2, 3}, {5, 1}, 6));
  ASSERT_TRUE(copy.ok()) << copy.status();
  EXPECT_EQ(copy->strides, Sizes({3, 1}));
  EXPECT_EQ(copy->storage_offset, 0);
  EXPECT_EQ(copy->storage->num_bytes(), 24u);
  EXPECT_EQ(Elements(*copy), std::vector<float>({6, 7, 8, 11, 12, 13}));
}

TEST(CopyContiguousTest, CopiesTransposedAndExpanded) {
  const Tensor matrix = Iota({2, 3});
  auto copy = CopyContiguous(View(matrix, {3, 2}, {1, 3}, 0));
  ASSERT_TRUE(copy.ok());
  EXPECT_EQ(Elements(*copy), std::vector<float>({0, 3, 1, 4, 2, 5}));
  copy = CopyContiguous(View(matrix, {2, 3}, {0, 2}, 1));
  ASSERT_TRUE(copy.ok());
  EXPECT_EQ(Elements(*copy), std::vector<float>({1, 3, 5, 1, 3, 5}));
}

TEST(CopyContiguousTest, CopiesManyDimensionsAndSizesOfOne) {
  const Tensor cube = Iota({2, 3, 4});
  // cube[:, 1:3, None, ::2]
  auto copy = CopyContiguous(View(cube, {2, 2, 1, 2}, {12, 4, 999, 2}, 4));
  ASSERT_TRUE(copy.ok());
  copy->sizes = {2, 4};
  copy->strides = {4, 1};
  EXPECT_EQ(Elements(*copy), std::vector<float>({4, 6, 8, 10, 16, 18, 20, 22}));
}

TEST(CopyContiguousTest, CopiesScalarsAndNothing) {
  Tensor scalar = View(Iota({5}), {}, {}, 3);
  scalar.requires_grad = true;
  auto copy = CopyContiguous(scalar);
  ASSERT_TRUE(copy.ok());
  EXPECT_TRUE(copy->requires_grad);
  EXPECT_EQ(*static_cast<float*>(copy->storage->data()), 3);
  copy = CopyContiguous(View(Iota({5}), {3, 0}, {0, 1}, 3));
  ASSERT_TRUE(copy.ok());
  EXPECT_EQ(copy->storage->num_bytes(), 0u);
}

TEST(CopyStorageTest, OwnsTheBytes) {
  char bytes[] = "borrowed";
  auto copy = CopyStorage(*BorrowCpu(bytes, sizeof(bytes)));
  ASSERT_TRUE(copy.ok());
  bytes[0] = '?';
  EXPECT_TRUE((*copy)->owns_memory());
  EXPECT_EQ((*copy)->num_bytes(), sizeof(bytes));
  EXPECT_STREQ(static_cast<char*>((*copy)->data()), "borrowed");
  EXPECT_TRUE(CopyStorage(*BorrowCpu(nullptr, 0)).ok());
}

}  // namespace
}  // namespace reprise

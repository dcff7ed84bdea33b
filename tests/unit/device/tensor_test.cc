#include "agent/device/tensor.h"

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace reprise {
namespace {

using Sizes = std::vector<int64_t>;
constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();

Tensor View(size_t bytes, Sizes sizes, Sizes strides, int64_t offset) {
  Tensor tensor;
  tensor.sizes = std::move(sizes);
  tensor.strides = std::move(strides);
  tensor.storage_offset = offset;
  tensor.storage = *AllocateCpu(bytes);
  return tensor;
}

TEST(DTypeTest, KnowsSizesAndNames) {
  EXPECT_EQ(SizeOf(DType::kBool), 1u);
  EXPECT_EQ(SizeOf(DType::kBFloat16), 2u);
  EXPECT_EQ(SizeOf(DType::kFloat32), 4u);
  EXPECT_EQ(SizeOf(DType::kComplex64), 8u);
  EXPECT_EQ(SizeOf(DType::kComplex128), 16u);
  EXPECT_EQ(SizeOf(static_cast<DType>(99)), 0u);
  EXPECT_EQ(SizeOf(DType::kUInt64), 8u);
  EXPECT_EQ(SizeOf(DType::kFloat8E5M2), 1u);
  EXPECT_EQ(ToString(DType::kInt64), "int64");
  EXPECT_EQ(ToString(DType::kFloat8E4M3FN), "float8_e4m3fn");
  for (size_t i = 0; i < kNumDTypes; ++i) {
    EXPECT_NE(SizeOf(static_cast<DType>(i)), 0u) << i;
    EXPECT_NE(ToString(static_cast<DType>(i)), "unknown") << i;
  }
  EXPECT_FALSE(IsLaterType(DType::kBFloat16));
  EXPECT_TRUE(IsLaterType(DType::kUInt16));
  EXPECT_TRUE(IsLaterType(DType::kFloat8E8M0FNU));
  EXPECT_EQ(ToString(static_cast<DType>(99)), "unknown");
}

TEST(MakeTensorTest, IsContiguous) {
  auto tensor = MakeTensor(DType::kInt16, {2, 3, 4});
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  EXPECT_EQ(tensor->strides, Sizes({12, 4, 1}));
  EXPECT_EQ(tensor->num_elements(), 24);
  EXPECT_EQ(tensor->storage->num_bytes(), 48u);
  EXPECT_TRUE(CheckBounds(*tensor).ok());
}

TEST(MakeTensorTest, ScalarsAndEmptyTensors) {
  auto scalar = MakeTensor(DType::kFloat64, {});
  ASSERT_TRUE(scalar.ok());
  EXPECT_EQ(scalar->num_elements(), 1);
  EXPECT_EQ(scalar->storage->num_bytes(), 8u);

  auto empty = MakeTensor(DType::kFloat64, {3, 0, 2});
  ASSERT_TRUE(empty.ok());
  EXPECT_EQ(empty->num_elements(), 0);
  EXPECT_EQ(empty->storage->num_bytes(), 0u);
  EXPECT_EQ(empty->strides, Sizes({2, 2, 1}));
  EXPECT_TRUE(CheckBounds(*empty).ok());
}

TEST(MakeTensorTest, RefusesImpossibleSizes) {
  const Sizes impossible[] = {{-1},
                              {2, -3},
                              {0, -1},
                              {kHuge, 2},
                              {int64_t{1} << 32, int64_t{1} << 32},
                              {kHuge},  // elements fit, bytes do not
                              {kHuge, 2, 0}};
  for (const Sizes& sizes : impossible) {
    EXPECT_EQ(MakeTensor(DType::kFloat32, sizes).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(MakeTensor(static_cast<DType>(-1), {1}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(NumElementsTest, NeverOverflows) {
  Tensor tensor;
  tensor.sizes = {kHuge, kHuge};
  EXPECT_EQ(tensor.num_elements(), kHuge);
  tensor.sizes = {kHuge, kHuge, 0};
  EXPECT_EQ(tensor.num_elements(), 0);
  tensor.sizes = {-5};
  EXPECT_EQ(tensor.num_elements(), 0);
}

TEST(CheckBoundsTest, AcceptsWhatLiesInside) {
  EXPECT_TRUE(CheckBounds(View(40, {10}, {1}, 0)).ok());
  EXPECT_TRUE(CheckBounds(View(40, {1}, {1}, 9)).ok());
  EXPECT_TRUE(CheckBounds(View(40, {}, {}, 9)).ok());
  EXPECT_TRUE(CheckBounds(View(40, {5, 2}, {1, 5}, 0)).ok());  // transposed
  EXPECT_TRUE(CheckBounds(View(4, {1000}, {0}, 0)).ok());      // expanded
  EXPECT_TRUE(CheckBounds(View(4, {1}, {kHuge}, 0)).ok());
  EXPECT_TRUE(CheckBounds(View(0, {0}, {1}, 5)).ok());  // nothing is viewed
  EXPECT_TRUE(CheckBounds(View(0, {7, 0}, {9, 1}, 0)).ok());
}

TEST(CheckBoundsTest, RefusesWhatLiesOutside) {
  const Tensor outside[] = {
      View(40, {11}, {1}, 0),
      View(43, {11}, {1}, 0),  // the last one is there in part
      View(40, {1}, {1}, 10),
      View(40, {}, {}, 10),
      View(0, {}, {}, 0),
      View(40, {2}, {10}, 0),
      View(40, {5, 3}, {1, 5}, 0),
      View(40, {1}, {1}, -1),
      View(40, {2}, {-1}, 5),
      View(40, {-2}, {1}, 5),
      View(40, {1}, {1, 1}, 0),
      View(40, {1}, {1}, kHuge),
      View(40, {2}, {kHuge}, 1),
      View(40, {3}, {kHuge}, 0),
      View(4, {kHuge, kHuge}, {0, 0}, 0),
      View(0, {kHuge, kHuge, 0}, {1, 1, 1}, 0),
  };
  int i = 0;
  for (const Tensor& tensor : outside) {
    EXPECT_EQ(CheckBounds(tensor).code(), absl::StatusCode::kInvalidArgument)
        << "case " << i;
    ++i;
  }
  EXPECT_FALSE(CheckBounds(Tensor{}).ok());
  Tensor unknown = View(40, {1}, {1}, 0);
  unknown.dtype = static_cast<DType>(77);
  EXPECT_FALSE(CheckBounds(unknown).ok());
}

TEST(CheckBoundsTest, SaysWhatIsWrong) {
  const std::string text(CheckBounds(View(40, {11}, {1}, 2)).message());
  EXPECT_EQ(text,
            "tensor out of the bounds of its storage of 10 float32: sizes "
            "[11], strides [1], offset 2");
}

}  // namespace
}  // namespace reprise

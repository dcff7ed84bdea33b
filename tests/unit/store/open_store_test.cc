#include "agent/store/open_store.h"

#include <filesystem>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/runtime/runtime.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/store/temporary_directory.h"

namespace reprise {
namespace {

using testing::HasSubstr;

constexpr absl::Time kNever = absl::InfiniteFuture();

TEST(OpenStoreTest, MemoryIsFreshEachTime) {
  const auto a = OpenStore(RealRuntime(), "memory://");
  const auto b = OpenStore(RealRuntime(), "memory://");
  ASSERT_TRUE(a.ok() && b.ok()) << a.status() << b.status();
  ASSERT_TRUE((*a)->Set("key", "value", kNever).ok());
  EXPECT_EQ((*a)->TryGet("key", kNever).value_or(""), "value");
  EXPECT_TRUE(absl::IsNotFound((*b)->TryGet("key", kNever).status()));
}

TEST(OpenStoreTest, FileIsTheOneDirectory) {
  const TemporaryDirectory root;
  const std::string url = "file://" + root.path() + "/with %20 in it";
  const auto a = OpenStore(RealRuntime(), url);
  const auto b = OpenStore(RealRuntime(), url);
  ASSERT_TRUE(a.ok() && b.ok()) << a.status() << b.status();
  ASSERT_TRUE((*a)->Set("key", "value", kNever).ok());
  EXPECT_EQ((*b)->TryGet("key", kNever).value_or(""), "value");
  EXPECT_TRUE(std::filesystem::exists(root.path() + "/with %20 in it/key-key"));
}

TEST(OpenStoreTest, ErrorsOfTheFileStoreComeThrough) {
  const auto store = OpenStore(RealRuntime(), "file:///dev/null/x");
  EXPECT_EQ(store.status().code(), absl::StatusCode::kFailedPrecondition)
      << store.status();
  EXPECT_THAT(std::string(store.status().message()), HasSubstr("/dev/null/x"));
}

TEST(OpenStoreTest, AnythingElseIsToldWhatThereIs) {
  for (const std::string url :
       {"", "memory", "memory:/", "memory://x", "file", "file://", "file:///",
        "file://relative/x", "FILE:///tmp", "/tmp", "redis://host:1", "\n"}) {
    const absl::Status status = OpenStore(RealRuntime(), url).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << url;
    EXPECT_THAT(std::string(status.message()), HasSubstr("memory://")) << url;
    EXPECT_THAT(std::string(status.message()), HasSubstr("file:///")) << url;
  }
  EXPECT_THAT(
      std::string(
          OpenStore(RealRuntime(), "redis://host:1").status().message()),
      HasSubstr("redis://host:1"));
}

}  // namespace
}  // namespace reprise

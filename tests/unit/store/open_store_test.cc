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

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

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

TEST(OpenStoreTest, AFileOfPyTorchIsTheOneFile) {
  const TemporaryDirectory root;
  const std::string url = "c10d-file://" + root.path() + "/file";
  const auto a = OpenStore(RealRuntime(), url);
  const auto b = OpenStore(RealRuntime(), url);
  ASSERT_TRUE(a.ok() && b.ok()) << a.status() << b.status();
  ASSERT_TRUE((*a)->Set("key", "value", kNever).ok());
  EXPECT_EQ((*b)->TryGet("key", kNever).value_or(""), "value");
  EXPECT_TRUE(std::filesystem::is_regular_file(root.path() + "/file"));
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
        "file://relative/x", "c10d-file://", "c10d-file:///", "c10d-file://x",
        "FILE:///tmp", "/tmp", "rediss://host:1", "\n"}) {
    const absl::Status status = OpenStore(RealRuntime(), url).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << url;
    EXPECT_THAT(std::string(status.message()), HasSubstr("memory://")) << url;
    EXPECT_THAT(std::string(status.message()), HasSubstr("file:///")) << url;
  }
  EXPECT_THAT(
      std::string(
          OpenStore(RealRuntime(), "rediss://host:1").status().message()),
      AllOf(HasSubstr("rediss://host:1"), HasSubstr("no TLS")));
}

TEST(OpenStoreTest, ServersAreNotNeededToOpen) {
  for (const std::string url :
       {"redis://host.invalid", "redis://:secret@host.invalid:1/2?ttl=3",
        "tcp://host.invalid:1", "tcp://[::1]:29500?protocol=2",
        "etcd://host.invalid",
        "etcd://a.invalid,b.invalid:1,[::1]:2/prefix/more"}) {
    const auto store = OpenStore(RealRuntime(), url);
    EXPECT_TRUE(store.ok()) << store.status();
  }
}

TEST(OpenStoreTest, NoErrorHasThePassword) {
  for (const std::string url :
       {"rediss://u:hunter2@host", "redis://:hunter2@host:x",
        "redis://:hunter2@host/x", "redis://:hunter2@", "redis://u:hunter2/@h",
        "redis://:hunter2%@host", "redis://:a@hunter2@host/y",
        "redis://hunter2@h", "tcp://:hunter2@host:1", "x:hunter2@host",
        "redis//:hunter2@host", "redis://:hunter2?@host",
        "redis://:h@host/?ttl=hunter2@", "etcd://u:hunter2@host",
        "etcd://a,u:hunter2@b/x"}) {
    const absl::Status status = OpenStore(RealRuntime(), url).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << url;
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("hunter2")))
        << url;
  }
}

TEST(OpenStoreTest, BadEtcdUrls) {
  for (const std::string rest :
       {"", ",", "a,", ",a", "a,,b", "a:x", "a:0", "a,b:", "a:1:2", "u@a",
        "a,u:p@b", "a?ttl=1", "a/prefix?x=1", "a b", "/prefix"}) {
    const absl::Status status =
        OpenStore(RealRuntime(), "etcd://" + rest).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << rest;
  }
}

TEST(OpenStoreTest, BadTcpUrls) {
  for (const std::string rest :
       {"", "host", "host:", "host:0", "host:x", ":1", "host:1/path",
        "host:1?protocol=3", "host:1?ttl=1", "a:b@host:1"}) {
    const absl::Status status =
        OpenStore(RealRuntime(), "tcp://" + rest).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << rest;
  }
}

}  // namespace
}  // namespace reprise

// Makes one call into each external library. A failure here is one of the
// machine or of the workspace, and not of reprise.

#include <memory>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/flags/flag.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "benchmark/benchmark.h"
#include "boost/context/fiber.hpp"
#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tensorpipe/tensorpipe.h"
#include "uv.h"

ABSL_FLAG(int, answer, 42, "A flag, so that the flags library is linked.");

namespace reprise {
namespace {

using ::testing::HasSubstr;

TEST(ExternalsTest, TensorPipeMakesAContext) {
  auto context = std::make_shared<tensorpipe::Context>(
      tensorpipe::ContextOptions().name("externals_test"));
  context->registerTransport(0, "uv", tensorpipe::transport::uv::create());
  context->registerChannel(0, "basic", tensorpipe::channel::basic::create());
  auto listener = context->listen({"uv://127.0.0.1"});
  EXPECT_THAT(listener->url("uv"), HasSubstr("127.0.0.1"));
  context->join();
}

TEST(ExternalsTest, AbseilIsLinked) {
  absl::flat_hash_map<std::string, int> map = {{"answer", 42}};
  EXPECT_EQ(map["answer"], absl::GetFlag(FLAGS_answer));
  absl::InlinedVector<int, 4> vector = {1, 2, 3};
  EXPECT_EQ(vector.size(), 3u);
  absl::AnyInvocable<int()> function = [owned = std::make_unique<int>(7)] {
    return *owned;
  };
  EXPECT_EQ(function(), 7);
  absl::StatusOr<int> status_or = absl::NotFoundError("nothing");
  EXPECT_THAT(status_or.status().ToString(), HasSubstr("nothing"));
  EXPECT_EQ(absl::FormatDuration(absl::Milliseconds(1500)), "1.5s");
  EXPECT_EQ(absl::StrFormat("%05d", 42), "00042");
}

TEST(ExternalsTest, BoostSwitchesFibers) {
  int steps = 0;
  boost::context::fiber fiber([&steps](boost::context::fiber&& caller) {
    ++steps;
    caller = std::move(caller).resume();
    ++steps;
    return std::move(caller);
  });
  fiber = std::move(fiber).resume();
  EXPECT_EQ(steps, 1);
  fiber = std::move(fiber).resume();
  EXPECT_EQ(steps, 2);
  EXPECT_FALSE(fiber);
}

TEST(ExternalsTest, SmallerLibrariesAreLinked) {
  EXPECT_STREQ(uv_err_name(UV_ECONNRESET), "ECONNRESET");
  EXPECT_EQ(nlohmann::json::parse(R"({"seed": 7})")["seed"], 7);
  EXPECT_FALSE(google::IsGoogleLoggingInitialized());
  int value = 0;
  benchmark::DoNotOptimize(value);
}

}  // namespace
}  // namespace reprise

#include "sim/interpose/code_kind.h"

#include "gtest/gtest.h"

namespace reprise::interpose {
namespace {

// As debug information is missing in libraries of the system's.
Frame WithoutFile(const char* function) { return {function, "", 0}; }

TEST(CodeKindTest, ALibrarysFunctionMayTakeWhatIsTensorPipes) {
  const Frame takes_an_error = WithoutFile(
      "torch::distributed::rpc::TensorPipeAgent::handleClientError("
      "torch::distributed::rpc::TensorPipeAgent::ClientPipe&, "
      "tensorpipe::Error const&)");
  EXPECT_EQ(KindOf(takes_an_error, /*in_program=*/false), PlaceKind::kUser);
  // In the program it may be one of TensorPipe's templates.
  EXPECT_EQ(KindOf(takes_an_error, /*in_program=*/true), PlaceKind::kQuiet);
}

TEST(CodeKindTest, WhatIsTensorPipesIsQuietWhereverItIs) {
  const Frame own = WithoutFile("tensorpipe::Pipe::close()");
  EXPECT_EQ(KindOf(own, /*in_program=*/false), PlaceKind::kQuiet);
  EXPECT_EQ(KindOf(own, /*in_program=*/true), PlaceKind::kQuiet);
}

TEST(CodeKindTest, TheCallerOfTheStandardLibraryCounts) {
  EXPECT_EQ(KindOf(WithoutFile("std::thread::join()"), /*in_program=*/false),
            PlaceKind::kLibrary);
}

}  // namespace
}  // namespace reprise::interpose

// The tests of the channels cma can fail: without their guards the same cuts
// deliver wrong bytes.

#include <cstdio>
#include <memory>
#include <random>
#include <string>

#include "agent/transport/cma/context.h"
#include "gtest/gtest.h"
#include "tensorpipe/channel/cma/factory.h"
#include "tests/unit/transport/cma_testing.h"

namespace reprise {
namespace {

std::string planted;

// Cuts until a wrong tensor was found, which most cuts lead to.
int CountWrong(tensorpipe::channel::Context& from,
               tensorpipe::channel::Context& to) {
  constexpr int kRounds = 2000;
  Wires wires;
  std::mt19937 random(1);
  for (int round = 1; round <= kRounds; ++round) {
    const int wrong = CutInMidFlight(wires, from, to, random).wrong;
    if (wrong == 0) continue;
    std::printf("%d wrong in round %d\n", wrong, round);
    return wrong;
  }
  return 0;
}

TEST(CmaPlantedTest, UncheckedBetweenOurOwn) {
  planted = "cma_unchecked";
  const auto from = MakeCmaContext(CmaProtocol::kOwn);
  const auto to = MakeCmaContext(CmaProtocol::kOwn);
  if (!from->isViable()) GTEST_SKIP();
  EXPECT_GT(CountWrong(*from, *to), 0);
}

TEST(CmaPlantedTest, UncheckedFromTensorPipes) {
  planted = "cma_unchecked";
  const auto to = MakeCmaContext(CmaProtocol::kStock);
  if (!to->isViable()) GTEST_SKIP();
  EXPECT_GT(CountWrong(*tensorpipe::channel::cma::create(), *to), 0);
}

TEST(CmaPlantedTest, InPlaceToTensorPipes) {
  planted = "cma_in_place";
  const auto from = MakeCmaContext(CmaProtocol::kStock);
  if (!from->isViable()) GTEST_SKIP();
  EXPECT_GT(CountWrong(*from, *tensorpipe::channel::cma::create()), 0);
}

}  // namespace

bool IsPlanted(const char* name) { return planted == name; }

}  // namespace reprise

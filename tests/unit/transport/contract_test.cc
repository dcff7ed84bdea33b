// The simulated transport keeps TensorPipe's transport contract as our
// transport uv does: the same probes give the same answers, in the same order
// and with the same texts. So does shm, but for what is listed here.

#include <map>
#include <memory>
#include <string>

#include "agent/transport/shm/context.h"
#include "agent/transport/uv/context.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sim/network/network.h"
#include "tests/unit/sim/network_testing.h"
#include "tests/unit/transport/contract_probes.h"

namespace reprise::testing {
namespace {

class ContractTest : public ::testing::TestWithParam<Probe> {
 protected:
  Transcript OnUv() {
    return GetParam().run(
        {[] { return MakeUvContext(Callers::kPipes); }, "127.0.0.1"});
  }
};

INSTANTIATE_TEST_SUITE_P(All, ContractTest, ::testing::ValuesIn(AllProbes()),
                         [](const ::testing::TestParamInfo<Probe>& info) {
                           return std::string(info.param.name);
                         });

TEST_P(ContractTest, SimAnswersAsUvDoes) {
  // What is sent first arrives first, on different connections too.
  NetworkOptions network;
  network.latency_spread_ns = 0;
  network.spike_one_in = 0;
  for (const Policy policy : kPolicies) {
    NetworkWorld world(With(policy), network);
    Transcript transcript;
    world.world().Start(0, "probe", [&] {
      transcript = GetParam().run({[&world] {
                                     return world.network()
                                         .MakeTransports(world.world().node(0),
                                                         TransportOptions())
                                         .transports.front()
                                         .context;
                                   },
                                   ""});
    });
    ASSERT_EQ(world.Run(), Outcome::kFinished)
        << ::testing::PrintToString(world.world()->DescribeFibers());
    EXPECT_EQ(transcript, OnUv());
    EXPECT_EQ(world.network().num_open_endpoints(), 0);
  }
}

TEST_P(ContractTest, ShmAnswersAsUvDoes) {
  const Transcript transcript = GetParam().run({MakeShmContext, ""});
  static const auto* const others = new std::map<std::string, Transcript>{
      // Memory has no resets.
      {"WhatWasNotReadResets",
       {"write: ok", "read: EOF: end of file",
        "another write: EOF: end of file"}},
      // It closes the connection itself.
      {"AnObjectThatIsNoneFailsBothEnds",
       {"write: ok", "read 1: EPROTO: protocol error",
        "read 2: connection closed", "read back: EOF: end of file"}},
      // It knows at once.
      {"NobodyListens",
       {"accept: listener closed none",
        "write: ECONNREFUSED: connection refused",
        "read: ECONNREFUSED: connection refused",
        "read again: ECONNREFUSED: connection refused"}}};
  const auto other = others->find(GetParam().name);
  EXPECT_EQ(transcript, other == others->end() ? OnUv() : other->second);
}

}  // namespace
}  // namespace reprise::testing

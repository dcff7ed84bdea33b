// The lines of a topology, and the hosts of workers.

#include "sim/network/topology.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "sim/explore/sim_worker.h"
#include "sim/network/links.h"
#include "tests/unit/sim/sim_testing.h"

namespace reprise {
namespace {

using ::testing::HasSubstr;

TEST(TopologyTest, LinesSayWhatLinksAreLike) {
  NetworkOptions options;
  const absl::Status status =
      ApplyTopology({"link w0,w1-w2 latency 20ms jitter 5ms",
                     "link w0>w1 bandwidth 1000", "host w1,w2"},
                    4, options);
  ASSERT_TRUE(status.ok()) << status;
  ASSERT_EQ(options.rules.size(), 2u);
  EXPECT_EQ(options.rules[0].from, (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(options.rules[0].to, (std::vector<int32_t>{2}));
  EXPECT_EQ(options.rules[0].latency_ns, 20 * kMillisecond);
  EXPECT_EQ(options.rules[0].jitter_ns, 5 * kMillisecond);
  EXPECT_FALSE(options.rules[0].one_way);
  EXPECT_TRUE(options.rules[1].one_way);
  EXPECT_EQ(options.rules[1].bytes_per_second, 1000);
  ASSERT_EQ(options.hosts.size(), 4u);
  EXPECT_EQ(options.hosts[1], options.hosts[2]);
  EXPECT_NE(options.hosts[0], options.hosts[1]);
  EXPECT_NE(options.hosts[0], options.hosts[3]);
  TestWorld world;
  const Links links(*world, options, [](FaultKind, int32_t, int32_t) {});
  EXPECT_EQ(links.OptionsOf(2, 0).latency_min_ns, 20 * kMillisecond);
  EXPECT_EQ(links.OptionsOf(0, 1).bytes_per_second, 1000);
  EXPECT_EQ(links.OptionsOf(1, 0).bytes_per_second, options.bytes_per_second);
  EXPECT_EQ(links.OptionsOf(3, 0).latency_min_ns, options.latency_min_ns);
}

TEST(TopologyTest, WhatIsWrongIsNamed) {
  const std::pair<const char*, const char*> lines[] = {
      {"", "it ends"},
      {"wire w0-w1 latency 1ms", "wire"},
      {"link w0-w9 latency 1ms", "w0-w9"},
      {"link w0 latency 1ms", "w0"},
      {"link w0-w1", "it ends"},
      {"link w0-w1 latency", "it ends"},
      {"link w0-w1 latency 5", "5"},
      {"link w0-w1 bandwidth 0", "0"},
      {"link w0-w1 loss 1", "1"},
      {"link w0-w1 colour red", "colour"},
      {"host", "it ends"},
      {"host w0,x", "w0,x"}};
  for (const auto& [line, named] : lines) {
    NetworkOptions options;
    const absl::Status status = ApplyTopology({line}, 2, options);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << line;
    EXPECT_THAT(
        std::string(status.message()),
        HasSubstr(std::string(": ") + named + " where there should be "))
        << line;
  }
}

TEST(TopologyTest, AFileHasCommentsAndItsErrorsHaveLines) {
  const absl::StatusOr<std::vector<std::string>> lines = ParseTopology(
      "# two sites\n\nlink w0,w1-w2  latency 20ms\r\n\t host\tw0,w1", 3);
  ASSERT_TRUE(lines.ok()) << lines.status();
  EXPECT_EQ(*lines, (std::vector<std::string>{"link w0,w1-w2 latency 20ms",
                                              "host w0,w1"}));
  EXPECT_TRUE(ParseTopology("", 3)->empty());
  const absl::Status wrong =
      ParseTopology("# w3 is not there\nlink w0-w1 latency 1ms\nhost w3,w0\n",
                    3)
          .status();
  EXPECT_EQ(wrong.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(wrong.message()),
              HasSubstr("line 3: topology 'host w3,w0': w3,w0 where"));
}

// Of the workers that no list names.
TEST(TopologyTest, WorkersHaveAHostEach) {
  NetworkOptions options;
  EXPECT_NE(options.HostOf(0), options.HostOf(1));
  options.hosts = {0, 0};
  EXPECT_EQ(options.HostOf(0), options.HostOf(1));
  EXPECT_NE(options.HostOf(0), options.HostOf(2));
  EXPECT_NE(options.HostOf(2), options.HostOf(3));
}

// Memory and GPUs are shared by those that the network puts on one host.
TEST(TopologyTest, AScenarioHasOneAnswer) {
  Scenario scenario;
  scenario.name = "hosts";
  scenario.workers = 3;
  SimRunOptions run;
  run.scenario = &scenario;
  const SimCluster apart(run);
  EXPECT_NE(apart.network_options.HostOf(0), apart.network_options.HostOf(1));
  scenario.topology = {"host w1,w2"};
  const SimCluster together(run);
  EXPECT_NE(together.network_options.HostOf(0),
            together.network_options.HostOf(1));
  EXPECT_EQ(together.network_options.HostOf(1),
            together.network_options.HostOf(2));
}

// What is drawn comes behind the scenario's own lines, and what is given takes
// the place of what is drawn.
TEST(TopologyTest, ASeedMayDrawIt) {
  Scenario scenario;
  scenario.name = "drawn";
  scenario.workers = 2;
  scenario.topology = {"link w0-w1 latency 1ms bandwidth 1000"};
  scenario.draw_topology = [](Draws random, const ScenarioParams&) {
    return std::vector<std::string>{
        "link w0-w1 latency " +
        std::to_string(random.Between("latency", 10, 1'000'000)) + "us"};
  };
  SimRunOptions run;
  run.scenario = &scenario;
  const auto link_of = [](const SimRunOptions& options) {
    const SimCluster cluster(options);
    return Links(*cluster.world, cluster.network_options,
                 [](FaultKind, int32_t, int32_t) {})
        .OptionsOf(0, 1);
  };
  const LinkOptions first = link_of(run);
  EXPECT_NE(first.latency_min_ns, kMillisecond);
  EXPECT_EQ(first.bytes_per_second, 1000);
  EXPECT_EQ(link_of(run).latency_min_ns, first.latency_min_ns);
  run.seed = 2;
  EXPECT_NE(link_of(run).latency_min_ns, first.latency_min_ns);
  run.topology = {{"link w0-w1 latency 3ms"}};
  EXPECT_EQ(link_of(run).latency_min_ns, 3 * kMillisecond);
  run.topology = std::vector<std::string>();
  EXPECT_EQ(link_of(run).latency_min_ns, kMillisecond);
}

}  // namespace
}  // namespace reprise

// Histograms, and the counters of peers.

#include "agent/metrics/metrics.h"

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "agent/metrics/histogram.h"
#include "agent/runtime/runtime.h"
#include "gtest/gtest.h"

namespace reprise {
namespace {

TEST(HistogramTest, ABucketEndsAtItsBound) {
  EXPECT_EQ(Histogram::BucketOf(std::numeric_limits<int64_t>::min()), 0u);
  EXPECT_EQ(Histogram::BucketOf(0), 0u);
  for (size_t i = 0; i < Histogram::kNumBounds; ++i) {
    const int64_t bound = Histogram::BoundNanoseconds(i);
    EXPECT_EQ(Histogram::BucketOf(bound), i);
    EXPECT_EQ(Histogram::BucketOf(bound + 1), i + 1);
  }
  EXPECT_EQ(Histogram::BucketOf(std::numeric_limits<int64_t>::max()),
            Histogram::kNumBounds);
}

TEST(HistogramTest, CountsAndSums) {
  Histogram histogram;
  histogram.Record(-5);
  histogram.Record(1500);
  histogram.Record(2000);
  histogram.Record(Histogram::BoundNanoseconds(Histogram::kNumBounds - 1) + 1);
  EXPECT_EQ(histogram.counts()[0], 1u);
  EXPECT_EQ(histogram.counts()[1], 2u);
  EXPECT_EQ(histogram.counts()[Histogram::kNumBounds], 1u);
  EXPECT_EQ(histogram.sum_nanoseconds(),
            3500 + Histogram::BoundNanoseconds(Histogram::kNumBounds - 1) + 1);
}

std::vector<std::pair<std::string, uint64_t>> TypesOf(
    const LatencyByType& latency) {
  std::vector<std::pair<std::string, uint64_t>> types;
  latency.ForEach([&](MessageType type, const Histogram& histogram) {
    types.emplace_back(MessageTypeLabel(type), histogram.counts()[1]);
  });
  return types;
}

TEST(LatencyByTypeTest, TypesBeyondTheFirstShareOne) {
  LatencyByType latency;
  const absl::Duration two_us = absl::Microseconds(2);
  latency.Record(MessageType::kScriptCall, two_us);
  latency.Record(MessageType::kPythonCall, two_us);
  for (int32_t type = 0x110; type < 0x115; ++type) {
    latency.Record(static_cast<MessageType>(type), two_us);
  }
  latency.Record(MessageType::kScriptCall, two_us);
  const std::vector<std::pair<std::string, uint64_t>> expected = {
      {"script_call", 2},
      {"python_call", 1},
      {"0x110", 1},
      {"0x111", 1},
      {"other", 3}};
  EXPECT_EQ(TypesOf(latency), expected);
}

TEST(LatencyByTypeTest, ThreadsAgreeOnTheTypes) {
  LatencyByType latency;
  std::vector<std::unique_ptr<Thread>> threads;
  for (int t = 0; t < 4; ++t) {
    threads.push_back(RealRuntime().StartThread("test", [&latency] {
      for (int32_t i = 0; i < 4000; ++i) {
        latency.Record(static_cast<MessageType>(0x100 + i % 4),
                       absl::Microseconds(2));
      }
    }));
  }
  for (const std::unique_ptr<Thread>& thread : threads) thread->Join();
  const auto types = TypesOf(latency);
  ASSERT_EQ(types.size(), 4u);
  for (const auto& [type, count] : types) EXPECT_EQ(count, 4000u) << type;
}

TEST(MetricsTest, APeerKeepsItsCounters) {
  Metrics metrics(RealRuntime());
  metrics.Callee("w1").calls.Add();
  metrics.Callee("w1").calls.Add();
  metrics.Caller("w1").calls.Add(5);
  ASSERT_EQ(metrics.callees().size(), 1u);
  EXPECT_EQ(metrics.callees()[0].second->calls.value(), 2);
  ASSERT_EQ(metrics.callers().size(), 1u);
  EXPECT_EQ(metrics.callers()[0].second->calls.value(), 5);
}

TEST(MetricsTest, ClaimedNamesDoNotFillTheMemory) {
  Metrics metrics(RealRuntime());
  metrics.Caller("w1").calls.Add();
  for (size_t i = 0; i < 2 * Metrics::kMaxPeers; ++i) {
    metrics.Caller(absl::StrCat("claim", i)).calls.Add();
  }
  EXPECT_EQ(metrics.callers().size(), Metrics::kMaxPeers + 1);
  metrics.Caller("w1").calls.Add();
  EXPECT_EQ(metrics.Caller("w1").calls.value(), 2);
  EXPECT_EQ(metrics.Caller(Metrics::kOthers).calls.value(),
            static_cast<int64_t>(Metrics::kMaxPeers) + 1);
}

TEST(MetricsTest, FamiliesHaveCumulativeBuckets) {
  Metrics metrics(RealRuntime());
  const CallMetrics call{&metrics.Callee("w1"), MessageType::kScriptCall,
                         absl::UnixEpoch()};
  call.Completed(absl::UnixEpoch() + absl::Microseconds(1), true);
  call.Completed(absl::UnixEpoch() + absl::Microseconds(3), false);
  call.Completed(absl::UnixEpoch() + absl::Hours(1), true);
  std::vector<MetricFamily> families;
  AppendPeerFamilies(metrics, {{"worker", "w0"}}, families);
  for (const MetricFamily& family : families) {
    if (family.name != "reprise_client_call_seconds") continue;
    ASSERT_EQ(family.type, MetricFamily::Type::kHistogram);
    ASSERT_EQ(family.samples.size(), 1u);
    const MetricSample& sample = family.samples[0];
    EXPECT_EQ(sample.buckets[0].count, 1u);
    EXPECT_EQ(sample.buckets[1].count, 1u);
    EXPECT_EQ(sample.buckets[2].count, 2u);
    EXPECT_EQ(sample.buckets.back().count, 2u);
    EXPECT_EQ(sample.count, 3u);
    EXPECT_NEAR(sample.sum, 3600.000004, 1e-9);
  }
  const std::string text = PrometheusText(families);
  EXPECT_NE(text.find("reprise_client_call_errors_total{worker=\"w0\","
                      "peer=\"w1\"} 1\n"),
            std::string::npos)
      << text;
}

}  // namespace
}  // namespace reprise

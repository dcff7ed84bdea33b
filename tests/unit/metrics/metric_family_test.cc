// The text exposition format, and labels that come from peers.

#include "agent/metrics/metric_family.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace reprise {
namespace {

// NOLINTNEXTLINE(misc-unused-using-decls): ""s is a use
using std::string_literals::operator""s;

TEST(PrintableLabelTest, KeepsWhatCanBeShown) {
  EXPECT_EQ(PrintableLabel(""), "");
  EXPECT_EQ(PrintableLabel("w1:train-0_a b"), "w1:train-0_a b");
  EXPECT_EQ(PrintableLabel("\u00e9\u20ac\U0001f600"), "\u00e9\u20ac\U0001f600");
  EXPECT_EQ(PrintableLabel("a\"\\"), "a\"\\");
}

TEST(PrintableLabelTest, EscapesEverythingElse) {
  EXPECT_EQ(PrintableLabel("a\nb\0c\x7f"s), "a\\x0ab\\x00c\\x7f");
  EXPECT_EQ(PrintableLabel("\xff\x80"), "\\xff\\x80");
  EXPECT_EQ(PrintableLabel("\xe2\x82"), "\\xe2\\x82");           // cut off
  EXPECT_EQ(PrintableLabel("\xc0\xaf"), "\\xc0\\xaf");           // overlong
  EXPECT_EQ(PrintableLabel("\xe0\x80\xaf"), "\\xe0\\x80\\xaf");  // overlong
  EXPECT_EQ(PrintableLabel("\xed\xa0\x80"), "\\xed\\xa0\\x80");  // surrogate
  EXPECT_EQ(PrintableLabel("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");
  EXPECT_EQ(PrintableLabel("\xc2\x85"), "\\xc2\\x85");  // a control character
}

MetricFamily Gauge(std::string label_value) {
  MetricSample sample;
  sample.labels = {{"peer", std::move(label_value)}};
  sample.value = 12345678901234;
  return {"x_things", "Things.", MetricFamily::Type::kGauge, {sample}};
}

TEST(PrometheusTextTest, ACounterOrGaugeIsALine) {
  EXPECT_EQ(PrometheusText({Gauge("w1")}),
            "# HELP x_things Things.\n"
            "# TYPE x_things gauge\n"
            "x_things{peer=\"w1\"} 12345678901234\n");
}

TEST(PrometheusTextTest, ALabelCannotBreakOutOfItsLine) {
  EXPECT_EQ(PrometheusText({Gauge("w1\"} 1\nevil{a=\"\\")}),
            "# HELP x_things Things.\n"
            "# TYPE x_things gauge\n"
            "x_things{peer=\"w1\\\"} 1\\\\x0aevil{a=\\\"\\\\\"} "
            "12345678901234\n");
}

TEST(PrometheusTextTest, AHistogramHasBucketsSumAndCount) {
  MetricSample sample;
  sample.buckets = {{1e-6, 1}, {0.25, 3}};
  sample.count = 4;
  sample.sum = 1.5;
  EXPECT_EQ(
      PrometheusText(
          {{"x_seconds", "Time.", MetricFamily::Type::kHistogram, {sample}}}),
      "# HELP x_seconds Time.\n"
      "# TYPE x_seconds histogram\n"
      "x_seconds_bucket{le=\"1e-06\"} 1\n"
      "x_seconds_bucket{le=\"0.25\"} 3\n"
      "x_seconds_bucket{le=\"+Inf\"} 4\n"
      "x_seconds_sum 1.5\n"
      "x_seconds_count 4\n");
}

}  // namespace
}  // namespace reprise

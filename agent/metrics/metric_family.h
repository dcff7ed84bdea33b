// Metrics as Prometheus orders them: families of samples that differ in their
// labels. What `Agent::GetMetricFamilies` returns, for any exporter.

#ifndef REPRISE_AGENT_METRICS_METRIC_FAMILY_H_
#define REPRISE_AGENT_METRICS_METRIC_FAMILY_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace reprise {

struct MetricSample {
  // Any bytes: a value may come from a peer.
  std::vector<std::pair<std::string, std::string>> labels;
  double value = 0;  // of a counter or a gauge
  // Of a histogram: how many values were at most each bound, ascending; `count`
  // of them all (at most infinity), and their sum.
  struct Bucket {
    double at_most = 0;
    uint64_t count = 0;
  };
  std::vector<Bucket> buckets;
  uint64_t count = 0;
  double sum = 0;
};

struct MetricFamily {
  enum class Type { kCounter, kGauge, kHistogram };
  std::string name;  // [a-z_]+
  std::string help;  // one line
  Type type = Type::kGauge;
  std::vector<MetricSample> samples;
};

// The text exposition format, version 0.0.4. Bytes of a label's value that are
// no printable UTF-8 come out as a backslash, 'x' and two digits.
std::string PrometheusText(const std::vector<MetricFamily>& families);

// A label's value as it is safe to show: valid UTF-8 without control
// characters.
std::string PrintableLabel(std::string_view value);

}  // namespace reprise

#endif  // REPRISE_AGENT_METRICS_METRIC_FAMILY_H_

// An HTTP endpoint, /metrics, from which Prometheus collects what an agent
// counts (docs/observability.md). A program with an HTTP server of its own only
// needs `Agent::GetPrometheusText`.
//
//   auto exporter = PrometheusExporter::Start(
//       "9464", [&agent] { return agent.GetMetricFamilies(); });

#ifndef REPRISE_AGENT_METRICS_PROMETHEUS_EXPORTER_H_
#define REPRISE_AGENT_METRICS_PROMETHEUS_EXPORTER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/metrics/metric_family.h"

namespace reprise {

// Reads all metrics at this moment, as `Agent::GetMetricFamilies` does.
using MetricSource = std::function<std::vector<MetricFamily>()>;

// Thread-safe. Has threads of its own.
class PrometheusExporter {
 public:
  // `address` is "10.0.0.7:9464", "9464" for every address of the machine, and
  // with port 0 any free one. UNAVAILABLE when it cannot be listened at.
  // `collect` is called on the exporter's threads, one call at a time, and not
  // any more once `Detach` has returned or the exporter is destroyed.
  static absl::StatusOr<std::unique_ptr<PrometheusExporter>> Start(
      const std::string& address, MetricSource collect);
  ~PrometheusExporter();

  int port() const;

  // Goes on serving, without metrics; returns once `collect` is not running any
  // more. Idempotent.
  void Detach();

 private:
  class Impl;
  explicit PrometheusExporter(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_METRICS_PROMETHEUS_EXPORTER_H_

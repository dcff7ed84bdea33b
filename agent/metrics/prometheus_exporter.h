// An HTTP endpoint, /metrics, from which Prometheus collects what an agent
// counts (docs/observability.md). For a program with an HTTP server of its own,
// `Agent::GetPrometheusText` is all it takes.

#ifndef REPRISE_AGENT_METRICS_PROMETHEUS_EXPORTER_H_
#define REPRISE_AGENT_METRICS_PROMETHEUS_EXPORTER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "agent/agent.h"

namespace reprise {

// Thread-safe. Has threads of its own.
class PrometheusExporter {
 public:
  // `address` is "10.0.0.7:9464", "9464" for every address of the machine, and
  // with port 0 any free one. UNAVAILABLE when it cannot be listened at.
  // `agent` may be shut down at any time, and must outlive the exporter or its
  // `Detach`.
  static absl::StatusOr<std::unique_ptr<PrometheusExporter>> Start(
      const std::string& address, const Agent& agent);
  ~PrometheusExporter();

  int port() const;

  // Goes on serving, without an agent; returns once nothing is collected from
  // it any more. Idempotent.
  void Detach();

 private:
  class Impl;
  explicit PrometheusExporter(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_METRICS_PROMETHEUS_EXPORTER_H_

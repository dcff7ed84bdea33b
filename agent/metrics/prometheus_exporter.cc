#include "agent/metrics/prometheus_exporter.h"

#include <exception>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "agent/metrics/metric_family.h"
#include "agent/runtime/mutex.h"
#include "agent/runtime/runtime.h"
#include "prometheus/collectable.h"
#include "prometheus/exposer.h"
#include "prometheus/metric_family.h"

namespace reprise {
namespace {

prometheus::MetricType TypeOf(MetricFamily::Type type) {
  switch (type) {
    case MetricFamily::Type::kCounter:
      return prometheus::MetricType::Counter;
    case MetricFamily::Type::kGauge:
      return prometheus::MetricType::Gauge;
    case MetricFamily::Type::kHistogram:
      return prometheus::MetricType::Histogram;
  }
  return prometheus::MetricType::Untyped;
}

prometheus::ClientMetric Convert(const MetricSample& sample) {
  prometheus::ClientMetric metric;
  for (const auto& [name, value] : sample.labels) {
    metric.label.push_back({name, PrintableLabel(value)});
  }
  metric.counter.value = sample.value;
  metric.gauge.value = sample.value;
  metric.histogram.sample_count = sample.count;
  metric.histogram.sample_sum = sample.sum;
  for (const MetricSample::Bucket& bucket : sample.buckets) {
    metric.histogram.bucket.push_back({bucket.count, bucket.at_most});
  }
  return metric;
}

// Kept by the exposer's threads while they collect.
class Collector : public prometheus::Collectable {
 public:
  explicit Collector(MetricSource collect)
      : mutex_(RealRuntime(), "PrometheusExporter"),
        collect_(std::move(collect)) {}

  std::vector<prometheus::MetricFamily> Collect() const override {
    std::vector<MetricFamily> families;
    {
      // `Detach` waits for this lock, and so for `collect_` to return.
      MutexLock lock(mutex_);
      if (collect_) families = collect_();
    }
    std::vector<prometheus::MetricFamily> converted;
    for (const MetricFamily& family : families) {
      prometheus::MetricFamily out;
      out.name = family.name;
      out.help = family.help;
      out.type = TypeOf(family.type);
      for (const MetricSample& sample : family.samples) {
        out.metric.push_back(Convert(sample));
      }
      converted.push_back(std::move(out));
    }
    return converted;
  }

  void Detach() {
    MutexLock lock(mutex_);
    collect_ = nullptr;
  }

 private:
  mutable Mutex mutex_;
  MetricSource collect_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

class PrometheusExporter::Impl {
 public:
  // Throws what the HTTP server throws.
  Impl(const std::string& address, MetricSource collect)
      : collector_(std::make_shared<Collector>(std::move(collect))),
        exposer_(address) {
    exposer_.RegisterCollectable(collector_);
  }
  ~Impl() { collector_->Detach(); }

  Collector& collector() { return *collector_; }
  const prometheus::Exposer& exposer() const { return exposer_; }

 private:
  const std::shared_ptr<Collector> collector_;
  prometheus::Exposer exposer_;
};

absl::StatusOr<std::unique_ptr<PrometheusExporter>> PrometheusExporter::Start(
    const std::string& address, MetricSource collect) {
  try {
    return std::unique_ptr<PrometheusExporter>(new PrometheusExporter(
        std::make_unique<Impl>(address, std::move(collect))));
  } catch (const std::exception& error) {
    return absl::UnavailableError(absl::StrCat(
        "no metrics can be served at '", address, "': ", error.what(),
        "; check that the port is free and the address is this machine's"));
  }
}

PrometheusExporter::PrometheusExporter(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {}

PrometheusExporter::~PrometheusExporter() = default;

int PrometheusExporter::port() const {
  const std::vector<int> ports = impl_->exposer().GetListeningPorts();
  return ports.empty() ? 0 : ports.front();
}

void PrometheusExporter::Detach() { impl_->collector().Detach(); }

}  // namespace reprise

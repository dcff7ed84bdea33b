#include "agent/agent.h"

#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/agent_impl.h"

namespace reprise {

absl::StatusOr<std::unique_ptr<Agent>> Agent::Start(Environment environment,
                                                    AgentOptions options,
                                                    RequestHandler handler,
                                                    absl::Time deadline) {
  if (environment.runtime == nullptr || environment.store == nullptr ||
      environment.transports == nullptr || handler == nullptr) {
    return absl::InvalidArgumentError(
        "an agent needs a runtime, a store, transports and a handler");
  }
  absl::StatusOr<std::shared_ptr<Impl>> impl = Impl::Start(
      std::move(environment), std::move(options), std::move(handler), deadline);
  if (!impl.ok()) return impl.status();
  return std::unique_ptr<Agent>(new Agent(*std::move(impl)));
}

Agent::Agent(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Agent::~Agent() { Impl::End(impl_); }

Future Agent::Send(WorkerId to, Message request, CallOptions options) {
  return impl_->Send(impl_->workers().Find(to), to, std::move(request),
                     options);
}

Future Agent::Send(std::string_view to, Message request, CallOptions options) {
  return impl_->Send(impl_->workers().Find(to), to, std::move(request),
                     options);
}

Future Agent::SendWithRetries(WorkerId to, Message request, CallOptions options,
                              RetryOptions retry) {
  return impl_->SendWithRetries(impl_->workers().Find(to), to,
                                std::move(request), options, retry);
}

Future Agent::SendWithRetries(std::string_view to, Message request,
                              CallOptions options, RetryOptions retry) {
  return impl_->SendWithRetries(impl_->workers().Find(to), to,
                                std::move(request), options, retry);
}

Future Agent::SendOneWay(WorkerId to, Message request, CallOptions options) {
  return impl_->SendOneWay(impl_->workers().Find(to), to, std::move(request),
                           options);
}

Future Agent::SendOneWay(std::string_view to, Message request,
                         CallOptions options) {
  return impl_->SendOneWay(impl_->workers().Find(to), to, std::move(request),
                           options);
}

void Agent::Note(std::string_view text) { impl_->Note(text); }

void Agent::Serve() { impl_->Serve(); }

absl::Status Agent::Drain(absl::Time deadline) {
  return impl_->Drain(deadline);
}

absl::Status Agent::Join(absl::Time deadline) {
  return impl_->Join(/*stay_together=*/false, deadline);
}

absl::Status Agent::JoinForShutdown(absl::Time deadline) {
  return impl_->Join(/*stay_together=*/true, deadline);
}

absl::Status Agent::Leave(absl::Time deadline) {
  return impl_->Leave(deadline);
}

absl::Status Agent::Shutdown(absl::Time deadline) {
  return impl_->Shutdown(deadline);
}

const WorkerInfo& Agent::self() const { return impl_->workers().self(); }

absl::StatusOr<WorkerInfo> Agent::GetWorkerInfo(std::string_view name) const {
  const MemberPtr worker = impl_->workers().Find(name);
  if (worker == nullptr) return impl_->NoSuchWorker(name);
  return *worker;
}

absl::StatusOr<WorkerInfo> Agent::GetWorkerInfo(WorkerId id) const {
  const MemberPtr worker = impl_->workers().Find(id);
  if (worker == nullptr) return impl_->NoSuchWorker(id);
  return *worker;
}

std::vector<WorkerInfo> Agent::GetWorkerInfos() const {
  return impl_->workers().workers();
}

absl::StatusOr<WorkerInfo> Agent::WaitForWorker(std::string_view name,
                                                absl::Time deadline) {
  return impl_->WaitForWorker(name, deadline);
}

absl::StatusOr<DeviceMap> Agent::GetDeviceMap(std::string_view name) const {
  return impl_->GetDeviceMap(name);
}

absl::StatusOr<DeviceMap> Agent::GetReverseDeviceMap(
    std::string_view name) const {
  return impl_->GetReverseDeviceMap(name);
}

std::vector<Device> Agent::GetDevices() const { return impl_->GetDevices(); }

std::map<std::string, int64_t> Agent::GetMetrics() const {
  return impl_->GetMetrics();
}

std::map<std::string, std::string> Agent::GetDebugInfo() const {
  return impl_->GetDebugInfo();
}

std::map<std::string, NetworkData> Agent::GetNetworkData() const {
  return impl_->GetNetworkData();
}

std::vector<MetricFamily> Agent::GetMetricFamilies() const {
  return impl_->GetMetricFamilies();
}

std::string Agent::GetPrometheusText() const {
  return PrometheusText(impl_->GetMetricFamilies());
}

}  // namespace reprise

#include "sim/stock/stock_transport.h"

#include <c10/util/Exception.h>
#include <torch/csrc/distributed/rpc/tensorpipe_agent.h>

#include <memory>

#include "absl/status/statusor.h"

namespace torch::distributed::rpc {
namespace {

std::unique_ptr<TransportRegistration> MakeSimTransport() {
  reprise::TransportProvider* const provider =
      reprise::StockTransportScope::current();
  TORCH_CHECK(provider != nullptr, "the transport \"", reprise::kStockTransport,
              "\" works only in a simulated world: start the agent by "
              "reprise::StockAgent");
  absl::StatusOr<reprise::TransportSet> set =
      provider->Make({.transports = {reprise::kStockTransport},
                      .channels = {reprise::kStockChannel},
                      .bind_address = ""});
  TORCH_CHECK(set.ok(), "PyTorch's agent runs in simulated worlds only: ",
              set.status().ToString());
  const reprise::TransportEntry& entry = set->transports.front();
  auto registration = std::make_unique<TransportRegistration>();
  registration->transport = entry.context;
  registration->priority = entry.priority;
  registration->address = entry.address;
  return registration;
}

}  // namespace

C10_REGISTER_CREATOR(TensorPipeTransportRegistry, sim, MakeSimTransport);

}  // namespace torch::distributed::rpc

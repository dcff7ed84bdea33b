#include "agent/transport/viability.h"

#include <string>
#include <tuple>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "agent/transport/cma/domain.h"
#include "tensorpipe/common/error.h"
#include "tensorpipe/common/ibv.h"
#include "tensorpipe/common/ibv_lib.h"
#include "tensorpipe/common/system.h"

namespace reprise {

std::string WhyIbvIsNotViable() {
  auto [error, library] = tensorpipe::IbvLib::create();
  if (error) return absl::StrCat("cannot load libibverbs: ", error.what());
  const auto [list_error, devices] = tensorpipe::IbvDeviceList::create(library);
  if (list_error) {
    return absl::StrCat("the kernel lists no InfiniBand devices: ",
                        list_error.what());
  }
  return "no InfiniBand device";
}

std::string WhyCmaIsNotViable() {
  absl::Status status = CmaDomain().status();
  if (status.ok()) status = AllowCmaPeers();
  if (status.ok()) return "it would work now, and did not a moment ago";
  return std::string(status.message());
}

}  // namespace reprise

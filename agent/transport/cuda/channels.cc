#include "agent/transport/cuda/channels.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/transport/cuda/basic.h"
#include "agent/transport/cuda/by_size.h"
#include "agent/transport/cuda/direct.h"
#include "agent/transport/cuda/host.h"
#include "agent/transport/cuda/ipc.h"
#include "agent/transport/cuda/xth.h"

namespace reprise {
namespace {

using ContextPtr = std::shared_ptr<tensorpipe::channel::Context>;

// Of cuda_direct: the largest tensor that goes through memory of the host. A
// larger one may wait for a turn on the GPU (by_size.h).
constexpr size_t kMostSmallBytes = size_t{64} << 10;
constexpr CudaHostSlots kSmallSlots = {kMostSmallBytes, 16};

// Repeats what the contexts ask for.
std::string WhyNoExport(GpuDriver& driver) {
  for (int i = 0; i < driver.device_count(); ++i) {
    const std::string device = absl::StrCat("cuda:", i);
    if (!driver.properties(i).has_unified_addressing) {
      return absl::StrCat(device, " has no unified addressing");
    }
    if (!driver.properties(i).is_compute_mode_default) {
      return absl::StrCat(device, " is in an exclusive compute mode");
    }
    if (absl::Status status = TryExporting(driver, i); !status.ok()) {
      return absl::StrCat("memory of ", device,
                          " cannot be shared with other processes: ",
                          std::string(status.message()));
    }
  }
  return "it would work now, and did not a moment ago";
}

GpuChannel Entry(GpuDriver& driver, const char* name, int64_t priority,
                 ContextPtr context) {
  if (context->isViable()) return {name, priority, std::move(context), ""};
  std::string why =
      driver.device_count() == 0 ? "there is no GPU" : WhyNoExport(driver);
  return {name, priority, nullptr, std::move(why)};
}

GpuChannel Over(const ContextPtr& cpu, GpuChannel entry) {
  if (entry.context == nullptr && (cpu == nullptr || !cpu->isViable())) {
    entry.why_not = "the channel for CPU memory below it does not work here";
  }
  return entry;
}

}  // namespace

std::vector<GpuChannel> MakeGpuChannels(
    const GpuChannelEnvironment& environment, const MakeCpuChannel& make_basic,
    const MakeCpuChannel& make_fast) {
  GpuDriver& driver = *environment.driver;
  const ContextPtr fast = make_fast();
  const ContextPtr basic = make_basic();
  std::vector<GpuChannel> channels;
  channels.push_back(
      Entry(driver, "cuda_xth", 400, MakeCudaXthContext(environment)));
  const ContextPtr small = make_basic();
  channels.push_back(Over(
      small, Entry(driver, "cuda_direct", 350,
                   MakeBySizeContext(
                       environment, kMostSmallBytes,
                       MakeCudaHostContext(environment, small, kSmallSlots),
                       MakeCudaDirectContext(environment)))));
  channels.push_back(
      Entry(driver, "cuda_ipc", 300, MakeCudaIpcContext(environment)));
  channels.push_back({"cuda_gdr", 200, nullptr,
                      "reprise does not have this channel; peers that have it "
                      "agree on another one"});
  channels.push_back(Over(fast, Entry(driver, "cuda_host", 100,
                                      MakeCudaHostContext(environment, fast))));
  channels.push_back(
      Over(basic, Entry(driver, "cuda_basic", 0,
                        MakeCudaBasicContext(environment, basic))));
  return channels;
}

}  // namespace reprise

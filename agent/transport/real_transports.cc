// `RealTransports()`: TensorPipe's transports and channels, with our own uv,
// shm and cma.

#include <algorithm>
#include <exception>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "agent/runtime/memory_reserve.h"
#include "agent/transport/address.h"
#include "agent/transport/checked_transport.h"
#include "agent/transport/cma/context.h"
#include "agent/transport/cuda/channels.h"
#include "agent/transport/peer_check.h"
#include "agent/transport/real_gpu_channels.h"
#include "agent/transport/shm/context.h"
#include "agent/transport/transports.h"
#include "agent/transport/uv/context.h"
#include "agent/transport/viability.h"
#include "glog/logging.h"
#include "tensorpipe/tensorpipe.h"
#include "tensorpipe/transport/listener.h"

namespace reprise {
namespace {

namespace tp = ::tensorpipe;

// Upper bounds of the file descriptors of a context with its listener.
constexpr int kFileDescriptorsPerUv = 8;
constexpr int kFileDescriptorsPerShm = 4;

// A name that can be asked for, in order of decreasing default priority.
struct TransportKind {
  const char* name;
  int64_t priority;
  bool needs_address;
  int file_descriptors;
  std::shared_ptr<tp::transport::Context> (*create)();
  std::string (*why_not_viable)();
};

struct ChannelKind {
  const char* name;
  int64_t priority;
  bool needs_address;
  int file_descriptors;
  // `address`: of the listeners, if it needs one.
  std::shared_ptr<tp::channel::Context> (*create)(
      const BindAddress& address, const std::shared_ptr<PeerCheck>& check);
  std::string (*why_not_viable)();
};

std::string NoReasonKnown() { return "TensorPipe says that it is not viable"; }

std::shared_ptr<tp::transport::Context> CreateUv() {
  return MakeUvContext(Callers::kPipes);
}

// Each lane has a thread, and a large tensor is split over all lanes.
std::shared_ptr<tp::channel::Context> CreateMptUv(
    const BindAddress& address, const std::shared_ptr<PeerCheck>& check) {
  std::vector<std::shared_ptr<tp::transport::Context>> contexts;
  std::vector<std::shared_ptr<tp::transport::Listener>> listeners;
  for (int i = 0; i < kMptUvLanes; ++i) {
    contexts.push_back(MakeChecked("uv", MakeUvContext(Callers::kLanes), check,
                                   CheckedUse::kChannel));
    listeners.push_back(contexts.back()->listen(address.AnyPort().ToString()));
    if (listeners.back()->addr().empty()) {
      throw std::runtime_error("one of its lanes cannot listen");
    }
  }
  return tp::channel::mpt::create(std::move(contexts), std::move(listeners));
}

constexpr TransportKind kTransports[] = {
    {"shm", 200, false, kFileDescriptorsPerShm, MakeShmContext,
     WhyShmIsNotViable},
    {"ibv", 100, true, kFileDescriptorsPerUv, tp::transport::ibv::create,
     WhyIbvIsNotViable},
    {"uv", 0, true, kFileDescriptorsPerUv, CreateUv, NoReasonKnown},
};

template <CmaProtocol kProtocol>
std::shared_ptr<tp::channel::Context> CreateCma(
    const BindAddress&, const std::shared_ptr<PeerCheck>&) {
  return MakeCmaContext(kProtocol);
}

// Those that `MakeGpuChannels` makes, with its priorities.
constexpr ChannelKind ForGpus(const char* name, int64_t priority,
                              bool needs_address = false) {
  return {name, priority, needs_address, 0, nullptr, NoReasonKnown};
}

constexpr ChannelKind kChannels[] = {
    {CmaNameOf(CmaProtocol::kOwn), 1250, false, 0, CreateCma<CmaProtocol::kOwn>,
     WhyCmaIsNotViable},
    {CmaNameOf(CmaProtocol::kStock), 1200, false, 0,
     CreateCma<CmaProtocol::kStock>, WhyCmaIsNotViable},
    {"mpt_uv", 1100, true, kMptUvLanes* kFileDescriptorsPerUv, CreateMptUv,
     NoReasonKnown},
    {"basic", 1000, false, 0,
     [](const BindAddress&, const std::shared_ptr<PeerCheck>&) {
       return tp::channel::basic::create();
     },
     NoReasonKnown},
    ForGpus("cuda_xth", 400),
    ForGpus("cuda_direct", 350),
    ForGpus("cuda_ipc", 300),
    ForGpus("cuda_gdr", 200),
    ForGpus("cuda_host", 100, /*needs_address=*/true),  // for mpt_uv beneath
    ForGpus("cuda_basic", 0),
};

bool IsForGpus(const ChannelKind& kind) { return kind.create == nullptr; }

// A kind and the priority that it gets.
template <typename Kind>
struct Choice {
  const Kind* kind;
  int64_t priority;
};

// Returns the kinds that `names` asks for, the highest priority first.
template <typename Kind>
absl::StatusOr<std::vector<Choice<Kind>>> Choose(
    absl::Span<const Kind> kinds, const std::vector<std::string>& names,
    const char* what) {
  std::vector<Choice<Kind>> choices;
  if (names.empty()) {
    for (const Kind& kind : kinds) choices.push_back({&kind, kind.priority});
    return choices;
  }
  for (size_t i = 0; i < names.size(); ++i) {
    const auto kind =
        std::find_if(kinds.begin(), kinds.end(),
                     [&](const Kind& kind) { return names[i] == kind.name; });
    if (kind == kinds.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat("Unknown ", what, ": ", names[i]));
    }
    // If a name is given twice, the first one counts.
    const bool is_new =
        std::none_of(choices.begin(), choices.end(),
                     [&](const auto& choice) { return choice.kind == &*kind; });
    if (!is_new) continue;
    choices.push_back({&*kind, static_cast<int64_t>(names.size() - 1 - i)});
  }
  return choices;
}

// The name cma stands for both kinds of cma, as peers may be of either kind.
std::vector<std::string> WithOwnCma(const std::vector<std::string>& names) {
  std::vector<std::string> result;
  for (const std::string& name : names) {
    if (name == CmaNameOf(CmaProtocol::kStock)) {
      result.push_back(CmaNameOf(CmaProtocol::kOwn));
    }
    result.push_back(name);
  }
  return result;
}

// `create()` makes the context. TensorPipe reports some failures by exceptions
// and not by `isViable`.
template <typename Kind, typename Create>
auto MakeViable(const Kind& kind, const Create& create)
    -> absl::StatusOr<decltype(create())> {
  absl::Status descriptors = TryFileDescriptors(kind.file_descriptors);
  if (!descriptors.ok()) return descriptors;
  try {
    auto context = create();
    if (context->isViable()) return context;
    return absl::UnavailableError(kind.why_not_viable());
  } catch (const std::exception& error) {
    return absl::UnavailableError(error.what());
  }
}

// An error in `address` matters only to the kinds that need an address.
absl::StatusOr<std::shared_ptr<tp::transport::Context>> MakeTransport(
    const TransportKind& kind, const absl::StatusOr<BindAddress>& address,
    const std::shared_ptr<PeerCheck>& check) {
  if (kind.needs_address && !address.ok()) return address.status();
  return MakeViable(kind, [&]() -> std::shared_ptr<tp::transport::Context> {
    return MakeChecked(kind.name, kind.create(), check, CheckedUse::kCore);
  });
}

absl::StatusOr<std::shared_ptr<tp::channel::Context>> MakeChannel(
    const ChannelKind& kind, const absl::StatusOr<BindAddress>& address,
    const std::shared_ptr<PeerCheck>& check) {
  if (kind.needs_address && !address.ok()) return address.status();
  return MakeViable(kind, [&] {
    return kind.create(address.value_or(BindAddress()), check);
  });
}

// For a channel of `MakeRealGpuChannels` to be built on; null if it does not
// work, or none of the channels `on_it` is wanted.
MakeCpuChannel MakeBeneath(const char* name,
                           std::initializer_list<std::string_view> on_it,
                           const std::vector<Choice<ChannelKind>>& wanted,
                           const absl::StatusOr<BindAddress>& address,
                           const std::shared_ptr<PeerCheck>& check) {
  const bool is_wanted =
      std::any_of(wanted.begin(), wanted.end(), [&](const auto& choice) {
        return std::find(on_it.begin(), on_it.end(), choice.kind->name) !=
               on_it.end();
      });
  return [&, name, is_wanted]() -> std::shared_ptr<tp::channel::Context> {
    for (const ChannelKind& kind : kChannels) {
      if (!is_wanted || kind.name != std::string_view(name)) continue;
      return MakeChannel(kind, address, check).value_or(nullptr);
    }
    return nullptr;
  };
}

// Empty for shm: the kernel then picks a free name, while a name of ours could
// be another agent's.
std::string ListenAddress(const TransportKind& kind,
                          const BindAddress& address) {
  if (!kind.needs_address) return "";
  // Two listeners cannot share a port, so only uv gets the port that was asked
  // for.
  const bool is_uv = kind.create == CreateUv;
  return (is_uv ? address : address.AnyPort()).ToString();
}

absl::Status TryToListenOver(const TransportKind& kind,
                             const std::string& listen_address) {
  absl::Status descriptors = TryFileDescriptors(kind.file_descriptors);
  if (!descriptors.ok() || !kind.needs_address) return descriptors;
  absl::StatusOr<BindAddress> address = ParseBindAddress(listen_address);
  return address.ok() ? TryToListen(*address) : address.status();
}

template <typename Kind>
bool AnyNeedsAddress(const std::vector<Choice<Kind>>& choices) {
  return std::any_of(
      choices.begin(), choices.end(),
      [](const Choice<Kind>& choice) { return choice.kind->needs_address; });
}

// Notes that `name` is left out.
void LeaveOut(const char* what, const char* name, const absl::Status& why,
              bool was_asked_for, std::vector<std::string>& reasons) {
  LOG_IF(WARNING, was_asked_for)
      << "the " << what << " " << name
      << " was asked for and does not work here: " << why.message();
  reasons.push_back(absl::StrCat(name, ": ", why.message()));
}

absl::Status NothingWorks(const char* what,
                          const std::vector<std::string>& reasons) {
  return absl::UnavailableError(
      absl::StrCat("no ", what, " works here: ", absl::StrJoin(reasons, "; ")));
}

class RealTransportProvider final : public TransportProvider {
 public:
  absl::StatusOr<TransportSet> Make(const TransportOptions& options,
                                    Devices* devices) override {
    IgnoreSigpipe();
    std::call_once(descriptor_limit_, RaiseDescriptorLimit);
    KeepMemoryReserve();
    const auto transports =
        Choose<TransportKind>(kTransports, options.transports, "transport");
    if (!transports.ok()) return transports.status();
    const auto channels =
        Choose<ChannelKind>(kChannels, WithOwnCma(options.channels), "channel");
    if (!channels.ok()) return channels.status();
    absl::StatusOr<BindAddress> address = BindAddress();
    if (AnyNeedsAddress(*transports) || AnyNeedsAddress(*channels)) {
      address = ResolveBindAddress(options.bind_address);
      // An address that was asked for must work: the agent does not quietly do
      // without it.
      if (!address.ok() && !options.bind_address.empty()) {
        return address.status();
      }
    }

    TransportSet set;
    const auto check = std::make_shared<PeerCheck>();
    std::vector<std::string> reasons;
    for (const auto& [kind, priority] : *transports) {
      auto context = MakeTransport(*kind, address, check);
      if (context.ok()) {
        std::string listen_address =
            ListenAddress(*kind, address.value_or(BindAddress()));
        auto try_to_listen = [kind = kind, listen_address] {
          return TryToListenOver(*kind, listen_address);
        };
        set.transports.push_back({kind->name, priority, *std::move(context),
                                  std::move(listen_address),
                                  std::move(try_to_listen)});
      } else {
        LeaveOut("transport", kind->name, context.status(),
                 !options.transports.empty(), reasons);
      }
    }
    if (set.transports.empty()) return NothingWorks("transport", reasons);
    reasons.clear();
    const std::vector<GpuChannel> for_gpus = MakeRealGpuChannels(
        devices,
        MakeBeneath("basic", {"cuda_basic", "cuda_direct"}, *channels, address,
                    check),
        MakeBeneath("mpt_uv", {"cuda_host"}, *channels, address, check));
    for (const auto& [kind, priority] : *channels) {
      // Without GPUs nobody is to hear of channels that nobody asked for.
      if (IsForGpus(*kind) && for_gpus.empty() && options.channels.empty()) {
        continue;
      }
      auto context = IsForGpus(*kind) ? FindChannel(kind->name, for_gpus)
                                      : MakeChannel(*kind, address, check);
      if (context.ok()) {
        set.channels.push_back({kind->name, priority, *std::move(context)});
      } else {
        LeaveOut("channel", kind->name, context.status(),
                 !options.channels.empty(), reasons);
      }
    }
    if (set.channels.empty()) return NothingWorks("channel", reasons);
    check->SetUp(set);
    set.arrivals = check->arrivals();
    return set;
  }

 private:
  std::once_flag descriptor_limit_;
};

}  // namespace

TransportProvider& RealTransports() {
  static RealTransportProvider* const provider = new RealTransportProvider();
  return *provider;
}

std::vector<TransportProbe> ProbeRealTransports(
    const std::string& bind_address) {
  std::vector<TransportProbe> probes;
  const absl::StatusOr<BindAddress> address = ResolveBindAddress(bind_address);
  const auto check = std::make_shared<PeerCheck>();
  // Dropping the contexts closes and joins them.
  for (const TransportKind& kind : kTransports) {
    const absl::Status status = MakeTransport(kind, address, check).status();
    std::string detail(status.message());
    if (status.ok()) {
      detail = kind.needs_address ? ListenAddress(kind, *address)
                                  : "a name picked by the kernel";
    }
    probes.push_back({"transport", kind.name, kind.priority, status.ok(),
                      std::move(detail)});
  }
  for (const ChannelKind& kind : kChannels) {
    if (IsForGpus(kind)) continue;
    const absl::Status status = MakeChannel(kind, address, check).status();
    std::string detail(status.message());
    if (status.ok() && kind.needs_address) {
      detail = address->AnyPort().ToString();
    }
    probes.push_back(
        {"channel", kind.name, kind.priority, status.ok(), std::move(detail)});
  }
  return probes;
}

std::vector<TransportProbe> ProbeRealGpuChannels(
    Devices& devices, const std::string& bind_address) {
  std::vector<TransportProbe> probes;
  const absl::StatusOr<BindAddress> address = ResolveBindAddress(bind_address);
  const auto check = std::make_shared<PeerCheck>();
  const auto all = *Choose<ChannelKind>(kChannels, {}, "channel");
  const std::vector<GpuChannel> made = MakeRealGpuChannels(
      &devices,
      MakeBeneath("basic", {"cuda_basic", "cuda_direct"}, all, address, check),
      MakeBeneath("mpt_uv", {"cuda_host"}, all, address, check));
  const absl::Status has_gpus = devices.Check(GpuDevice(0));
  for (const ChannelKind& kind : kChannels) {
    if (!IsForGpus(kind)) continue;
    absl::Status status = FindChannel(kind.name, made).status();
    if (!has_gpus.ok()) status = has_gpus;
    probes.push_back({"channel", kind.name, kind.priority, status.ok(),
                      std::string(status.message())});
  }
  return probes;
}

}  // namespace reprise

// `reprise store`.

#include <signal.h>

#include <cstdio>
#include <string_view>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "agent/runtime/runtime.h"
#include "agent/store/tcp_store_server.h"
#include "agent/transport/transports.h"
#include "tools/command/report.h"
#include "tools/command/subcommands.h"

namespace reprise {
namespace {

// Splits HOST:PORT, where an IPv6 address stands in brackets.
absl::Status SplitAddress(const std::string& address,
                          TcpStoreServerOptions& options) {
  const auto wrong = [&address](std::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--tcp ", address, ": ", std::string(what),
        "; it is HOST:PORT, as in 0.0.0.0:29500 or [::1]:0 (0: any port)"));
  };
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return wrong("no port");
  std::string host = address.substr(0, colon);
  if (absl::StartsWith(host, "[") && absl::EndsWith(host, "]")) {
    host = host.substr(1, host.size() - 2);
  } else if (absl::StrContains(host, ":")) {
    return wrong("an IPv6 address must stand in brackets");
  }
  if (host.empty()) return wrong("no host");
  const std::string port = address.substr(colon + 1);
  uint32_t number = 0;
  if (port.empty() || port.find_first_not_of("0123456789") != port.npos ||
      !absl::SimpleAtoi(port, &number) || number > UINT16_MAX) {
    return wrong("the port must be a number from 0 to 65535");
  }
  options.host = std::move(host);
  options.port = static_cast<uint16_t>(number);
  return absl::OkStatus();
}

std::string UrlOf(const TcpStoreServerOptions& options, uint16_t port) {
  const bool is_ipv6 = absl::StrContains(options.host, ":");
  return absl::StrCat("tcp://", is_ipv6 ? "[" : "", options.host,
                      is_ipv6 ? "]:" : ":", port);
}

// Blocks SIGINT and SIGTERM, also for all threads that are started from now on,
// so that `sigwait` gets them.
sigset_t BlockEndingSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

}  // namespace

int DoStore(const CommonFlags& common, const StoreCommand& command) {
  TcpStoreServerOptions options;
  absl::Status status = SplitAddress(command.tcp, options);
  if (!status.ok()) return UsageError(status, common.json);
  options.max_bytes = command.max_mib << 20;
  options.max_buffered_bytes = command.max_mib << 20;
  const sigset_t signals = BlockEndingSignals();
  // A connection for each client takes more than the usual 1024.
  RaiseDescriptorLimit();
  const auto server = TcpStoreServer::Start(RealRuntime(), options);
  if (!server.ok()) return UsageError(server.status(), common.json);
  const std::string url = UrlOf(options, (*server)->port());
  if (common.json) {
    PrintJson(Json{
        {"url", url}, {"host", options.host}, {"port", (*server)->port()}});
  } else {
    PrintLine(absl::StrCat("serving ", url,
                           " to clients of PyTorch's TCPStore; SIGINT and "
                           "SIGTERM end it"));
  }
  // Whoever started it may wait for the line.
  std::fflush(stdout);
  int signal = 0;
  sigwait(&signals, &signal);
  PrintNotice(absl::StrCat("the store ends by ",
                           signal == SIGINT ? "SIGINT" : "SIGTERM", " with ",
                           (*server)->counts().keys, " keys and ",
                           (*server)->counts().connections, " connections"));
  return kHeld;
}

}  // namespace reprise

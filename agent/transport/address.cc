#include "agent/transport/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "tensorpipe/tensorpipe.h"

namespace reprise {
namespace {

constexpr char kInterfaceVariable[] = "TP_SOCKET_IFNAME";
constexpr char kDefaultHost[] = "127.0.0.1";
constexpr int kMaxPort = 65535;

using AddressInfo = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

// Null when `address` is not numeric.
AddressInfo Lookup(const BindAddress& address) {
  in_addr ipv4;  // getaddrinfo takes "127.1" too, TensorPipe does not
  if (address.host.find(':') == std::string::npos &&
      inet_pton(AF_INET, address.host.c_str(), &ipv4) != 1) {
    return AddressInfo(nullptr, &freeaddrinfo);
  }
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* result = nullptr;
  if (getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(),
                  &hints, &result) != 0) {
    result = nullptr;
  }
  return AddressInfo(result, &freeaddrinfo);
}

bool IsWildcard(const addrinfo& info) {
  if (info.ai_family == AF_INET) {
    return reinterpret_cast<const sockaddr_in*>(info.ai_addr)
               ->sin_addr.s_addr == htonl(INADDR_ANY);
  }
  return IN6_IS_ADDR_UNSPECIFIED(
      &reinterpret_cast<const sockaddr_in6*>(info.ai_addr)->sin6_addr);
}

absl::Status Invalid(const std::string& address, const char* why) {
  return absl::InvalidArgumentError(
      absl::StrCat("invalid address to listen at: \"", address, "\": ", why));
}

// TensorPipe's two look-ups; never throws.
absl::StatusOr<std::string> LookupOwnAddress(const char* interface) {
  try {
    const auto [error, address] =
        interface != nullptr
            ? tensorpipe::transport::uv::lookupAddrForIface(interface)
            : tensorpipe::transport::uv::lookupAddrForHostname();
    if (error) return absl::NotFoundError(error.what());
    return address;
  } catch (const std::exception& e) {
    return absl::InternalError(e.what());
  }
}

absl::StatusOr<BindAddress> GuessAddress(const char* interface) {
  absl::StatusOr<std::string> text = LookupOwnAddress(interface);
  if (!text.ok()) return text.status();
  absl::StatusOr<BindAddress> address = ParseBindAddress(*text);
  if (!address.ok()) return address.status();
  absl::Status tried = TryToListen(*address);
  if (!tried.ok()) return tried;
  return address;
}

}  // namespace

std::string BindAddress::ToString() const {
  return host.find(':') == std::string::npos
             ? absl::StrCat(host, ":", port)
             : absl::StrCat("[", host, "]:", port);
}

absl::StatusOr<BindAddress> ParseBindAddress(const std::string& address) {
  BindAddress result;
  std::string port = "0";
  const size_t colon = address.find(':');
  if (!address.empty() && address[0] == '[') {
    const size_t bracket = address.find(']');
    if (bracket == std::string::npos) return Invalid(address, "no ]");
    result.host = address.substr(1, bracket - 1);
    const std::string rest = address.substr(bracket + 1);
    if (!rest.empty() && rest[0] != ':') return Invalid(address, "after ]");
    if (!rest.empty()) port = rest.substr(1);
  } else if (colon != std::string::npos && colon == address.rfind(':')) {
    result.host = address.substr(0, colon);
    port = address.substr(colon + 1);
  } else {
    result.host = address;
  }
  if (!absl::SimpleAtoi(port, &result.port) || result.port < 0 ||
      result.port > kMaxPort) {
    return Invalid(address, "the port is not in 0..65535");
  }
  const AddressInfo info = Lookup(result);
  if (info == nullptr) return Invalid(address, "not a numeric IP address");
  if (IsWildcard(*info)) {
    return Invalid(address, "peers cannot connect to it; name one address");
  }
  return result;
}

absl::Status TryToListen(const BindAddress& address) {
  const AddressInfo info = Lookup(address);
  if (info == nullptr) {
    return Invalid(address.ToString(), "not a numeric IP address");
  }
  const int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;  // as libuv does
  int error = 0;
  if (fd < 0 ||
      setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
      bind(fd, info->ai_addr, info->ai_addrlen) != 0 || listen(fd, 1) != 0) {
    error = errno;
  }
  if (fd >= 0) close(fd);
  if (error == 0) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(
      "cannot listen at ", address.ToString(), ": ", strerror(error)));
}

absl::StatusOr<BindAddress> ResolveBindAddress(
    const std::string& bind_address) {
  if (!bind_address.empty()) {
    absl::StatusOr<BindAddress> address = ParseBindAddress(bind_address);
    if (!address.ok()) return address.status();
    absl::Status tried = TryToListen(*address);
    if (!tried.ok()) return tried;
    return address;
  }
  const char* interface = std::getenv(kInterfaceVariable);
  absl::StatusOr<BindAddress> guess = GuessAddress(interface);
  if (guess.ok()) return guess;
  LOG(WARNING) << "found no address of this machine that peers can reach, by "
               << (interface != nullptr
                       ? absl::StrCat(kInterfaceVariable, "=", interface)
                       : std::string("the host name"))
               << " (" << guess.status().message() << "): using "
               << kDefaultHost << ", which other machines cannot reach";
  const BindAddress address{kDefaultHost, 0};
  absl::Status tried = TryToListen(address);
  if (!tried.ok()) return tried;
  return address;
}

absl::Status TryFileDescriptors(int count) {
  std::vector<int> taken;
  int error = 0;
  while (error == 0 && static_cast<int>(taken.size()) < count) {
    const int fd = open("/", O_PATH | O_CLOEXEC);
    if (fd < 0) {
      error = errno;
    } else {
      taken.push_back(fd);
    }
  }
  for (const int fd : taken) close(fd);
  if (error == 0) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("needs up to ", count, " file descriptors and got ",
                   taken.size(), ": ", strerror(error)));
}

}  // namespace reprise

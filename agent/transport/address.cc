#include "agent/transport/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace reprise {
namespace {

constexpr char kInterfaceVariable[] = "TP_SOCKET_IFNAME";
constexpr char kDefaultHost[] = "127.0.0.1";
constexpr int kMaxPort = 65535;

using AddressInfo = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

// Null when `address` is not numeric.
AddressInfo Lookup(const BindAddress& address) {
  in_addr ipv4;  // getaddrinfo accepts "127.1", TensorPipe does not
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

bool IsLoopback(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    return ntohl(
               reinterpret_cast<const sockaddr_in&>(address).sin_addr.s_addr) >>
               24 ==
           IN_LOOPBACKNET;
  }
  return address.sa_family == AF_INET6 &&
         IN6_IS_ADDR_LOOPBACK(
             &reinterpret_cast<const sockaddr_in6&>(address).sin6_addr);
}

// A link-local address needs the name of an interface, and the interfaces of a
// peer have other names.
bool IsLinkLocal(const sockaddr& address) {
  return address.sa_family == AF_INET6 &&
         IN6_IS_ADDR_LINKLOCAL(
             &reinterpret_cast<const sockaddr_in6&>(address).sin6_addr);
}

absl::Status Invalid(const std::string& address, const char* why) {
  return absl::InvalidArgumentError(
      absl::StrCat("invalid address to listen at: \"", address, "\": ", why));
}

// Returns "" unless it is an address that peers can use and that we can listen
// at.
std::string UsableHost(const sockaddr* address, bool may_be_loopback) {
  if (address == nullptr || IsLinkLocal(*address) ||
      (!may_be_loopback && IsLoopback(*address))) {
    return "";
  }
  std::array<char, NI_MAXHOST> host = {};
  const socklen_t size = address->sa_family == AF_INET    ? sizeof(sockaddr_in)
                         : address->sa_family == AF_INET6 ? sizeof(sockaddr_in6)
                                                          : 0;
  if (size == 0 || getnameinfo(address, size, host.data(), host.size(), nullptr,
                               0, NI_NUMERICHOST) != 0) {
    return "";
  }
  if (!TryToListen({host.data(), 0}).ok()) return "";
  return host.data();
}

absl::StatusOr<std::string> LookupInterface(const std::string& interface) {
  ifaddrs* found = nullptr;
  if (getifaddrs(&found) != 0) return absl::ErrnoToStatus(errno, "getifaddrs");
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> addresses(found,
                                                                   freeifaddrs);
  bool exists = false;
  for (const ifaddrs* one = found; one != nullptr; one = one->ifa_next) {
    if (interface != one->ifa_name) continue;
    exists = true;
    std::string host = UsableHost(one->ifa_addr, /*may_be_loopback=*/true);
    if (!host.empty()) return host;
  }
  return absl::NotFoundError(exists ? "it has no address that peers can use"
                                    : "there is no such interface");
}

absl::StatusOr<std::string> LookupHostName() {
  std::array<char, HOST_NAME_MAX + 1> name = {};
  if (gethostname(name.data(), name.size() - 1) != 0) {
    return absl::ErrnoToStatus(errno, "gethostname");
  }
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(name.data(), nullptr, &hints, &found);
  if (error != 0) return absl::NotFoundError(gai_strerror(error));
  const AddressInfo addresses(found, &freeaddrinfo);
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    std::string host = UsableHost(one->ai_addr, /*may_be_loopback=*/false);
    if (!host.empty()) return host;
  }
  return absl::NotFoundError(absl::StrCat(
      name.data(), " resolves to no address that other machines can reach"));
}

absl::StatusOr<BindAddress> GuessAddress(const char* interface) {
  absl::StatusOr<std::string> host =
      interface != nullptr ? LookupInterface(interface) : LookupHostName();
  if (!host.ok()) return host.status();
  return BindAddress{*std::move(host), 0};
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
    if (bracket == std::string::npos) return Invalid(address, "no closing ]");
    result.host = address.substr(1, bracket - 1);
    const std::string rest = address.substr(bracket + 1);
    if (!rest.empty() && rest[0] != ':') {
      return Invalid(address, "only a port may follow the ]");
    }
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
  if (IsLinkLocal(*info->ai_addr)) {
    return Invalid(address,
                   "it is link-local, and the interface after the % has this "
                   "name on this machine only; name a global or a unique local "
                   "(fd..) address");
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

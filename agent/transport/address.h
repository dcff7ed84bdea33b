// Finds the addresses that TCP listeners bind to.
//
// TensorPipe aborts the process when it cannot listen at an address, so every
// address that these functions return has been tried. They may be called on any
// thread, block, and may ask a name server.

#ifndef REPRISE_AGENT_TRANSPORT_ADDRESS_H_
#define REPRISE_AGENT_TRANSPORT_ADDRESS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace reprise {

struct BindAddress {
  std::string host;  // numeric, IPv6 without brackets
  int port = 0;      // 0: any free port

  // "host:port" or "[host]:port", as TensorPipe takes it.
  std::string ToString() const;
  // The same host at any free port.
  BindAddress AnyPort() const { return BindAddress{host, 0}; }
};

// Parses "host", "host:port" and "[host]:port", numeric only. INVALID_ARGUMENT
// for anything else, for 0.0.0.0 and ::, which peers cannot connect to, and for
// link-local IPv6, which means another link to them.
absl::StatusOr<BindAddress> ParseBindAddress(const std::string& address);

// Listens at the address for a moment. UNAVAILABLE with the system's reason.
absl::Status TryToListen(const BindAddress& address);

// What `TransportOptions::bind_address` describes, tried. INVALID_ARGUMENT or
// UNAVAILABLE for an address that was given. "" is a guess: the first address
// of the interface in TP_SOCKET_IFNAME, or of this machine's name, that peers
// can reach; where there is none it is 127.0.0.1, and a warning says so.
absl::StatusOr<BindAddress> ResolveBindAddress(const std::string& bind_address);

// Tries whether the process can have `count` more file descriptors, since
// TensorPipe aborts when it lacks one to listen with. RESOURCE_EXHAUSTED.
absl::Status TryFileDescriptors(int count);

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_ADDRESS_H_

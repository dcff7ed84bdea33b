// The addresses that TCP listeners bind to.
//
// TensorPipe ends the process when it cannot listen at an address. The address
// that `ResolveBindAddress` returns has therefore been tried. These functions
// may be called on any thread. They do not wait for other machines, except that
// the name of this host is looked up.

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
// for anything else, and for 0.0.0.0 and ::, which peers cannot connect to.
absl::StatusOr<BindAddress> ParseBindAddress(const std::string& address);

// Listens at the address for a moment. UNAVAILABLE with the system's reason.
absl::Status TryToListen(const BindAddress& address);

// The address that `TransportOptions::bind_address` describes, after a try to
// listen at it. INVALID_ARGUMENT or UNAVAILABLE if `bind_address` is not empty
// and cannot be used. If it is empty and the guess cannot be used, the result
// is 127.0.0.1.
absl::StatusOr<BindAddress> ResolveBindAddress(const std::string& bind_address);

// OK if `count` more file descriptors can be opened, otherwise
// RESOURCE_EXHAUSTED. TensorPipe ends the process when it has none to listen
// with.
absl::Status TryFileDescriptors(int count);

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_ADDRESS_H_

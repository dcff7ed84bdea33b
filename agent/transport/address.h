// The addresses that TCP listeners bind to.
//
// TensorPipe aborts the process when it cannot listen at an address, so what
// comes out of here has been tried.

#ifndef REPRISE_AGENT_TRANSPORT_ADDRESS_H_
#define REPRISE_AGENT_TRANSPORT_ADDRESS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace reprise {

struct BindAddress {
  std::string host;  // numeric, IPv6 without brackets
  int port = 0;      // 0: any

  // "host:port", "[host]:port", as TensorPipe takes it.
  std::string ToString() const;
  // The same host at any port.
  BindAddress AnyPort() const { return BindAddress{host, 0}; }
};

// Parses "host", "host:port" and "[host]:port", numeric only. INVALID_ARGUMENT
// for anything else, and for 0.0.0.0 and ::, which peers cannot connect to.
absl::StatusOr<BindAddress> ParseBindAddress(const std::string& address);

// Listens there for a moment. UNAVAILABLE with the system's reason.
absl::Status TryToListen(const BindAddress& address);

// What `TransportOptions::bind_address` describes, tried. INVALID_ARGUMENT or
// UNAVAILABLE for an address that was given; a guess falls back to 127.0.0.1.
absl::StatusOr<BindAddress> ResolveBindAddress(const std::string& bind_address);

// Tries whether `count` more file descriptors can be had: TensorPipe aborts
// when it lacks one to listen with. RESOURCE_EXHAUSTED.
absl::Status TryFileDescriptors(int count);

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_ADDRESS_H_

// A socket that listens for TCP connections.

#ifndef REPRISE_AGENT_STORE_TCP_LISTENER_H_
#define REPRISE_AGENT_STORE_TCP_LISTENER_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "agent/store/posix_file.h"

namespace reprise {

struct TcpListener {
  FileDescriptor file;  // does not block
  uint16_t port = 0;
};

// A connection that was accepted.
struct AcceptedSocket {
  FileDescriptor file;  // does not block; none if `error` says why
  std::string peer;     // its address, for texts
  int error = 0;        // an errno value; EAGAIN when nobody waits
};

// Listens at the first address of `host` that can be had. Port 0 is any that is
// free. FAILED_PRECONDITION says what to do about it.
absl::StatusOr<TcpListener> ListenOnTcp(const std::string& host, uint16_t port);

// The kernel sends at once what is written to the connection, and ends it two
// minutes after its peer's machine has gone.
AcceptedSocket AcceptTcp(const TcpListener& listener);

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_TCP_LISTENER_H_

// When bytes last arrived on a TCP socket, as the kernel knows it.

#ifndef REPRISE_AGENT_TRANSPORT_UV_TCP_ARRIVAL_H_
#define REPRISE_AGENT_TRANSPORT_UV_TCP_ARRIVAL_H_

#include "absl/time/time.h"

namespace reprise {

// How long ago the socket `fd` last received data, to some milliseconds.
// Infinite when it has never received any, and when `fd` is no TCP socket.
absl::Duration SinceTcpArrival(int fd);

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_UV_TCP_ARRIVAL_H_

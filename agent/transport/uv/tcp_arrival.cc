#include "agent/transport/uv/tcp_arrival.h"

// This header has more of `tcp_info` than <netinet/tcp.h>, and the two cannot
// be used together.
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstddef>

namespace reprise {

absl::Duration SinceTcpArrival(int fd) {
  tcp_info info = {};
  socklen_t size = sizeof(info);
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 ||
      size < offsetof(tcp_info, tcpi_bytes_received) +
                 sizeof(info.tcpi_bytes_received) ||
      info.tcpi_bytes_received == 0) {
    return absl::InfiniteDuration();
  }
  return absl::Milliseconds(info.tcpi_last_data_recv);
}

}  // namespace reprise

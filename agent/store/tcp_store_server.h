// A server for PyTorch's TCPStore, so that a group of a tcp:// URL needs no
// PyTorch process. It serves protocol 1 and protocol 2 (tcp_store_protocol.h),
// to each client the one in which it begins.
//
// Its keys live in memory and end with it. There is no authentication, as
// PyTorch has none: whoever reaches the port can read and change all keys, so
// listen on a network of your own. But no client can end the server or take
// more of it than its share:
//
//  - What is not a query ends the connection that sent it. So do keys of more
//    than 1 MiB, values of more than 64 MiB, a query for a key that is not
//    there, and an addition to what is no number. The log says why, once a
//    second at most.
//  - A query that has begun must be whole within `request_timeout`, and who has
//    answers to take must take some of them within it. A client that says
//    nothing between two queries may do so for ever; one whose machine has gone
//    is noticed by TCP's keepalive, after two minutes.
//  - Who does not take its answers is not served any further, and holds up
//    nobody else.
//  - `max_bytes` and `max_buffered_bytes` bound the memory. A client that would
//    exceed the first loses its connection, and its write is not made. Beyond
//    the second, the connection with the most bytes under way is closed.
//  - Beyond `max_connections`, and when the system has no descriptors left, the
//    oldest connection that has never asked anything makes room. If there is
//    none, new ones are refused, or wait for a descriptor.

#ifndef REPRISE_AGENT_STORE_TCP_STORE_SERVER_H_
#define REPRISE_AGENT_STORE_TCP_STORE_SERVER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/runtime/runtime.h"

namespace reprise {

struct TcpStoreServerOptions {
  // A name or an address of this machine; "0.0.0.0" and "::" are all of IPv4
  // and of both.
  std::string host = "127.0.0.1";
  uint16_t port = 0;  // 0: any that is free
  size_t max_connections = 16384;
  size_t max_bytes = size_t{1} << 30;           // of keys and values
  size_t max_buffered_bytes = size_t{1} << 30;  // of queries and answers
  absl::Duration request_timeout = absl::Seconds(60);
};

// Thread-safe.
class TcpStoreServer {
 public:
  // Of one moment.
  struct Counts {
    int64_t connections = 0;
    int64_t waiting = 0;  // clients that wait for keys
    int64_t keys = 0;
    int64_t bytes = 0;    // held by keys, values and waits
    int64_t dropped = 0;  // connections that the server has ended so far
  };

  // Listens, and serves on a thread of its own until the server is destroyed.
  // `runtime`, a real one, must outlive it. FAILED_PRECONDITION when the
  // address cannot be had: the port is taken, or the host is not this machine.
  static absl::StatusOr<std::unique_ptr<TcpStoreServer>> Start(
      Runtime& runtime, const TcpStoreServerOptions& options);

  // Ends all connections, and returns when the thread has ended.
  virtual ~TcpStoreServer() = default;

  virtual uint16_t port() const = 0;
  virtual Counts counts() const = 0;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_TCP_STORE_SERVER_H_

// The server's end of a TCPStore connection: bytes that have come and are not
// served yet, and answers that the client has not taken yet.

#ifndef REPRISE_AGENT_STORE_TCP_STORE_CLIENT_H_
#define REPRISE_AGENT_STORE_TCP_STORE_CLIENT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/store/posix_file.h"
#include "agent/store/tcp_store_request.h"

namespace reprise {

// Not thread-safe. Never blocks.
class TcpStoreClient {
 public:
  using Handle = std::function<absl::Status(TcpStoreRequest)>;

  TcpStoreClient(FileDescriptor file, std::string address)
      : file_(std::move(file)), address_(std::move(address)) {}

  int file() const { return file_.get(); }
  const std::string& address() const { return address_; }
  // Whether it has ever sent a whole query.
  bool has_asked() const { return has_asked_; }
  // Whether it has taken so few of its answers that it is not to be served.
  bool is_full() const { return UnsentBytes() > kFullBytes; }
  bool has_unsent() const { return UnsentBytes() > 0; }
  // The memory that is under way, roughly.
  size_t buffered_bytes() const {
    return reader_.held_bytes() + received_.capacity() + unsent_.capacity();
  }

  // Reads some of what has come and serves it, as long as the client takes the
  // answers. Must not be called while it `is_full`. `handle` is called for each
  // query and may call `Send`. CANCELLED
  // when the client has closed the connection or has been cut off, and another
  // error when the server must close it, which says why.
  absl::Status Receive(absl::Time now, const Handle& handle);
  // Appends to what is to be sent.
  void Send(std::string bytes, absl::Time now);
  // Writes what the kernel takes, and serves more of what has come if that was
  // enough. To be called whenever the connection takes bytes and `has_unsent`.
  // Errors are as above.
  absl::Status Flush(absl::Time now, const Handle& handle);

  // When the connection is to be closed for its slowness: `timeout` after the
  // beginning of a query that is not whole, or after the client last took some
  // of its answers. InfiniteFuture if neither is there.
  absl::Time Deadline(absl::Duration timeout) const;
  // What the deadline is for.
  std::string_view DeadlineText() const;

 private:
  static constexpr size_t kFullBytes = size_t{1} << 20;

  size_t UnsentBytes() const { return unsent_.size() - sent_; }
  // Serves `bytes`, and keeps those for which it is too full.
  absl::Status Serve(std::string_view bytes, absl::Time now,
                     const Handle& handle);
  // Writes what the kernel takes.
  absl::Status Write(absl::Time now);

  const FileDescriptor file_;
  const std::string address_;
  TcpStoreRequestReader reader_;
  std::string received_;  // and not served yet; empty unless it is full
  std::string unsent_;
  size_t sent_ = 0;  // so many bytes of `unsent_` have gone
  bool has_asked_ = false;
  absl::Time asking_since_ = absl::InfiniteFuture();
  absl::Time unsent_since_ = absl::InfiniteFuture();
};

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_TCP_STORE_CLIENT_H_

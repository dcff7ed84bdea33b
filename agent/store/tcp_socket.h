// A TCP connection on which every operation has a deadline.

#ifndef REPRISE_AGENT_STORE_TCP_SOCKET_H_
#define REPRISE_AGENT_STORE_TCP_SOCKET_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "agent/runtime/runtime.h"
#include "agent/store/posix_file.h"

namespace reprise {

// For the real runtime, as it blocks in poll(2). Not thread-safe. Errors are
// DEADLINE_EXCEEDED, and UNAVAILABLE with the address in the text: refused,
// reset, closed, or no answer within a timeout of its own (10 s to connect,
// kAnswerTimeout to write or to read). So even a call without a deadline ends
// when the network swallows what is sent. After any error the connection cannot
// be used any more.
class TcpSocket {
 public:
  static constexpr absl::Duration kAnswerTimeout = absl::Seconds(30);

  // Tries the addresses of `host` in turn. Looking up a name is bounded by the
  // system's resolver and not by `deadline`. `runtime` must outlive the socket.
  static absl::StatusOr<TcpSocket> Connect(Runtime& runtime,
                                           const std::string& host,
                                           const std::string& port,
                                           absl::Time deadline);

  // Sets the timeout of reads, which is kAnswerTimeout at first.
  void set_answer_timeout(absl::Duration timeout) { answer_timeout_ = timeout; }

  absl::Status Write(std::string_view bytes, absl::Time deadline);
  // Waits for bytes and appends them to `buffer`.
  absl::Status ReadSome(std::string& buffer, absl::Time deadline);

  // Whether the peer has neither closed nor sent anything.
  bool IsQuiet() const;

 private:
  TcpSocket(Runtime& runtime, std::string address, FileDescriptor file)
      : runtime_(&runtime),
        address_(std::move(address)),
        file_(std::move(file)) {}

  // Waits until `file_` is ready for `events` of poll(2).
  absl::Status WaitFor(int16_t events, absl::Duration timeout,
                       absl::Time deadline) const;
  absl::Status ConnectTo(const void* address, size_t size, absl::Time deadline);
  absl::Status Unavailable(std::string_view what) const;

  Runtime* runtime_;
  std::string address_;
  FileDescriptor file_;
  absl::Duration answer_timeout_ = kAnswerTimeout;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_TCP_SOCKET_H_

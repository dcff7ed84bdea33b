#include "agent/store/tcp_store_client.h"

#include <errno.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

// At most so many bytes are read at a time, so that all clients get their turn.
constexpr size_t kReadBytes = 65536;
// And so many are written.
constexpr size_t kWriteBytes = size_t{4} << 20;

absl::Status Gone() { return absl::CancelledError("it has gone"); }

}  // namespace

absl::Status TcpStoreClient::Receive(absl::Time now, const Handle& handle) {
  std::array<char, kReadBytes> bytes;
  const ssize_t count = recv(file_.get(), bytes.data(), bytes.size(), 0);
  if (count == 0) return Gone();
  if (count < 0) {
    return errno == EAGAIN || errno == EINTR ? absl::OkStatus() : Gone();
  }
  absl::Status status = Serve(
      std::string_view(bytes.data(), static_cast<size_t>(count)), now, handle);
  if (!status.ok()) return status;
  return Flush(now, handle);
}

void TcpStoreClient::Send(std::string bytes, absl::Time now) {
  if (!has_unsent()) unsent_since_ = now;
  if (unsent_.empty()) {
    unsent_ = std::move(bytes);
  } else {
    unsent_.append(bytes);
  }
}

// One turn, so that a client that takes all answers at once does not keep the
// others waiting. Afterwards there are bytes left to serve only if there are
// too many to send.
absl::Status TcpStoreClient::Flush(absl::Time now, const Handle& handle) {
  absl::Status status = Write(now);
  if (!status.ok() || is_full() || received_.empty()) return status;
  const std::string bytes = std::exchange(received_, std::string());
  return Serve(bytes, now, handle);
}

absl::Status TcpStoreClient::Write(absl::Time now) {
  const size_t sent_before = sent_;
  const bool was_full = is_full();
  while (has_unsent() && sent_ - sent_before < kWriteBytes) {
    const ssize_t count =
        send(file_.get(), unsent_.data() + sent_,
             std::min(UnsentBytes(), kWriteBytes), MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) break;
    if (count < 0) return Gone();
    sent_ += static_cast<size_t>(count);
  }
  // What has come of a query was not read on meanwhile.
  if (was_full && !is_full() && reader_.is_within_request()) {
    asking_since_ = now;
  }
  if (!has_unsent()) {
    // Gives the memory back.
    unsent_ = std::string();
    sent_ = 0;
    unsent_since_ = absl::InfiniteFuture();
    return absl::OkStatus();
  }
  if (sent_ != sent_before) unsent_since_ = now;
  // What has gone is cut off when it is the greater part, so that each byte is
  // moved about once.
  if (sent_ > UnsentBytes()) {
    unsent_.erase(0, sent_);
    sent_ = 0;
  }
  return absl::OkStatus();
}

absl::Status TcpStoreClient::Serve(std::string_view bytes, absl::Time now,
                                   const Handle& handle) {
  while (!is_full()) {
    const auto outcome = reader_.Read(bytes);
    if (outcome == TcpStoreRequestReader::Outcome::kMore) break;
    if (outcome == TcpStoreRequestReader::Outcome::kNonsense) {
      return absl::InvalidArgumentError(reader_.error());
    }
    has_asked_ = true;
    asking_since_ = absl::InfiniteFuture();
    absl::Status status = handle(reader_.Take());
    if (!status.ok()) return status;
  }
  received_ = std::string(bytes);
  if (!reader_.is_within_request()) {
    asking_since_ = absl::InfiniteFuture();
  } else if (asking_since_ == absl::InfiniteFuture()) {
    asking_since_ = now;
  }
  return absl::OkStatus();
}

absl::Time TcpStoreClient::Deadline(absl::Duration timeout) const {
  if (is_full()) return unsent_since_ + timeout;
  return std::min(asking_since_, unsent_since_) + timeout;
}

std::string_view TcpStoreClient::DeadlineText() const {
  return !is_full() && asking_since_ < unsent_since_
             ? "its query has not become whole in time"
             : "it has taken nothing of its answers for too long";
}

}  // namespace reprise

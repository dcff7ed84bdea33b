#include "agent/transport/cma/remote_copy.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "agent/planted.h"
#include "agent/transport/cma/copier.h"
#include "agent/transport/cma/error.h"

namespace reprise {

using tensorpipe::Error;

bool RemoteCopy::Step() {
  const size_t size = std::min(length - copied, Copier::kPieceBytes);
  Error error =
      *stop ? CmaErrorOf("closed before a tensor was copied") : CopyPiece(size);
  if (!error && (copied += size) < length) return true;
  done(error);
  return false;
}

Error RemoteCopy::CopyPiece(size_t size) {
  // The check also comes before anything is read, so that a peer cannot make us
  // read the memory of any process that it names.
  if (word == 0 && copied == 0) {
    if (Error error = Check()) return error;
  }
  Error error =
      memory->Read(pid, from + copied, static_cast<char*>(into) + copied, size);
  return error ? error : Check();
}

Error RemoteCopy::Check() const {
  if (REPRISE_PLANTED(cma_unchecked)) return Error::kSuccess;
  if (word == 0) {
    if (liveness == nullptr) {
      return CmaErrorOf(
          "over this transport it cannot be told whether TensorPipe's own "
          "sender still held its memory when it was copied; use another "
          "channel with that peer");
    }
    if (!liveness->PeerIsProcess(pid)) {
      return CmaErrorOf(absl::StrCat(
          "the peer says that its tensor lies in process ", pid,
          ", of which it cannot be shown that it holds the other end of the "
          "connection"));
    }
    if (!liveness->PeerIsOpen()) {
      return CmaErrorOf("the sender closed before its tensor was copied");
    }
    return Error::kSuccess;
  }
  // The word is read by a second call, so that the data is read before it on
  // every processor.
  std::atomic_thread_fence(std::memory_order_acquire);
  uint64_t now = 0;
  if (Error error = memory->Read(pid, word, &now, sizeof(now))) return error;
  if (now == value) return Error::kSuccess;
  return CmaErrorOf("the sender let go of its tensor before it was copied");
}

}  // namespace reprise

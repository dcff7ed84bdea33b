#include "agent/transport/shm/lingering.h"

#include <errno.h>
#include <sys/socket.h>

#include <algorithm>

#include "agent/transport/shm/peer_identity.h"

namespace reprise::shm {
namespace {

constexpr int64_t kFirstPauseNs = 50'000;
constexpr int64_t kLongestPauseNs = 5'000'000;

}  // namespace

void Lingering::Start(Loop& loop, FileDescriptor socket,
                      std::unique_ptr<Outbox> outbox) {
  const auto self =
      std::make_shared<Lingering>(loop, std::move(socket), std::move(outbox));
  loop.Retain();
  self->Look(kFirstPauseNs);
}

bool Lingering::IsOver() {
  const int64_t now_ns = Loop::NowNs();
  if (loop_.is_stopping() && stopped_ns_ == 0) stopped_ns_ = now_ns;
  if (now_ns - begin_ns_ > kLongestNs ||
      (stopped_ns_ != 0 && now_ns - stopped_ns_ > kLongestAtEndNs) ||
      !IsSocketOpen(socket_.get())) {
    return true;
  }
  if (outbox_ == nullptr) {
    // The hello is read without room for its descriptors, so the kernel drops
    // them.
    char hello[8];
    return recv(socket_.get(), hello, sizeof(hello), MSG_DONTWAIT) >= 0 ||
           errno != EAGAIN;
  }
  if (outbox_->queue.is_owing()) outbox_->queue.Post(0, socket_.get());
  return !outbox_->writer.Refresh() || outbox_->writer.is_read();
}

void Lingering::Look(int64_t pause_ns) {
  if (IsOver()) {
    loop_.Release();
    return;
  }
  loop_.AddTimer(pause_ns, [self = shared_from_this(), pause_ns] {
    self->Look(std::min(2 * pause_ns, kLongestPauseNs));
  });
}

}  // namespace reprise::shm

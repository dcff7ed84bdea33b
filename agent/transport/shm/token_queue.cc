#include "agent/transport/shm/token_queue.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstring>

namespace reprise::shm {
namespace {

constexpr uint64_t kTokenBytes = sizeof(uint32_t);

// The lock is held for some ten instructions, unless its holder was stopped or
// has died.
constexpr int kLockAttempts = 64;

bool Lock(std::atomic<uint8_t>& flag) {
  for (int i = 0; i < kLockAttempts; ++i) {
    if (flag.load(std::memory_order_relaxed) == 0 &&
        flag.exchange(1, std::memory_order_acquire) == 0) {
      return true;
    }
  }
  return false;
}

}  // namespace

bool TokenQueue::HasTokens() const {
  return ring_.header().head.load(std::memory_order_acquire) - tail_ >=
         kTokenBytes;
}

bool TokenQueue::Take(size_t max, const std::function<void(uint32_t)>& take) {
  RingHeader& header = ring_.header();
  const uint64_t size = header.head.load(std::memory_order_acquire) - tail_;
  if (size > ring_.size()) return false;
  const uint64_t count = std::min<uint64_t>(size / kTokenBytes, max);
  for (uint64_t i = 0; i < count; ++i) {
    uint32_t token = 0;
    std::memcpy(&token, ring_.data() + (tail_ & ring_.mask()), kTokenBytes);
    tail_ += kTokenBytes;
    take(token);
  }
  if (count > 0) header.tail.store(tail_, std::memory_order_release);
  return true;
}

void TokenQueue::SetAsleep(bool is_asleep) {
  ring_.header().is_asleep.store(is_asleep ? 1 : 0, std::memory_order_relaxed);
}

int PeerQueue::Map(const PeerHello& hello, bool may_be_unsealed) {
  tokens_ = hello.tokens;
  const int error = ring_.MapPeer(hello.queue.header.get(),
                                  hello.queue.data.get(), may_be_unsealed);
  if (error != 0) return error;
  is_ours_ = ring_.header().reprise.load(std::memory_order_relaxed) == kReprise;
  return 0;
}

void PeerQueue::Post(unsigned events, int socket) {
  owed_ |= events;
  const unsigned owed = owed_;
  if ((owed_ & kWritten) != 0 && PostToken(tokens_.inbox)) owed_ &= ~kWritten;
  if ((owed_ & kRead) != 0 && PostToken(tokens_.outbox)) owed_ &= ~kRead;
  if (owed_ == owed || !is_ours_) return;
  std::atomic_thread_fence(std::memory_order_seq_cst);
  std::atomic<uint32_t>& is_asleep = ring_.header().is_asleep;
  if (is_asleep.load(std::memory_order_relaxed) == 0 ||
      is_asleep.exchange(0, std::memory_order_seq_cst) == 0) {
    return;
  }
  // If the byte cannot be sent, either other bytes already wait to be read, or
  // nobody is left to read them.
  const char byte = 0;
  send(socket, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

bool PeerQueue::PostToken(uint32_t token) {
  RingHeader& header = ring_.header();
  if (!Lock(header.producer_flag)) return false;
  // Others post here, too, so the head must be taken as the memory says. Only
  // the place that follows from it has to be in the ring, and the mask keeps it
  // there.
  const uint64_t head = header.head.load(std::memory_order_relaxed);
  const uint64_t used = head - header.tail.load(std::memory_order_acquire);
  const bool has_room = used <= ring_.size() - kTokenBytes;
  if (has_room) {
    const uint64_t place = head & ring_.mask() & ~(kTokenBytes - 1);
    std::memcpy(ring_.data() + place, &token, kTokenBytes);
    header.head.store(head + kTokenBytes, std::memory_order_release);
  }
  header.producer_flag.store(0, std::memory_order_release);
  return has_room;
}

}  // namespace reprise::shm

// Settles between two processes who may touch memory that one has offered to
// the other, whatever becomes of the connection between them. Of the channel
// cuda_direct.
//
// The sender has a word for each offer, in memory that both share. A receiver
// that wants to copy claims the offer first, and a sender that wants its memory
// back revokes it; one of the two wins. If the receiver does, the sender waits
// for the receiver's word that it is done.

#ifndef REPRISE_AGENT_TRANSPORT_CUDA_DIRECT_CLAIMS_H_
#define REPRISE_AGENT_TRANSPORT_CUDA_DIRECT_CLAIMS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "agent/transport/cuda/shared_memory.h"

namespace reprise {

// A peer may write anything into the words. Thread-safe.
class DirectClaims {
 public:
  static constexpr uint32_t kNumTickets = 64;

  static absl::StatusOr<std::unique_ptr<DirectClaims>> Create(
      SharedMemory& memory) {
    return Wrap(memory.Create(kBytes), "");
  }
  static absl::StatusOr<std::unique_ptr<DirectClaims>> Open(
      SharedMemory& memory, const std::string& name) {
    return Wrap(memory.Open(name, kBytes), name);
  }

  DirectClaims(std::unique_ptr<SharedSegment> segment, std::string name)
      : segment_(std::move(segment)), name_(std::move(name)) {}

  // Of the segment, also where it was opened.
  const std::string& name() const {
    return name_.empty() ? segment_->name() : name_;
  }

  // --- The sender ---
  void Offer(uint32_t ticket) { Word(ticket).store(kOffered); }
  // False while a receiver has claimed it and is not done.
  bool Revoke(uint32_t ticket) {
    uint32_t state = kOffered;
    Word(ticket).compare_exchange_strong(state, kRevoked);
    return state != kClaimed;
  }

  // --- The receiver ---
  // False if the sender has revoked it, or never offered it.
  bool Claim(uint32_t ticket) {
    uint32_t state = kOffered;
    return Word(ticket).compare_exchange_strong(state, kClaimed);
  }
  // It does not read the memory any more.
  void Finish(uint32_t ticket) { Word(ticket).store(kFinished); }

 private:
  enum State : uint32_t { kNone, kOffered, kClaimed, kFinished, kRevoked };
  static_assert(std::atomic<uint32_t>::is_always_lock_free);
  static constexpr size_t kBytes = 4096;
  // A cache line each.
  static constexpr size_t kStride = kBytes / kNumTickets;

  static absl::StatusOr<std::unique_ptr<DirectClaims>> Wrap(
      absl::StatusOr<std::unique_ptr<SharedSegment>> segment,
      std::string name) {
    if (!segment.ok()) return segment.status();
    return std::make_unique<DirectClaims>(*std::move(segment), std::move(name));
  }
  // Pages begin as zero bytes, which are a word of 0.
  std::atomic<uint32_t>& Word(uint32_t ticket) {
    return *reinterpret_cast<std::atomic<uint32_t>*>(segment_->data() +
                                                     ticket * kStride);
  }

  const std::unique_ptr<SharedSegment> segment_;
  const std::string name_;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_CUDA_DIRECT_CLAIMS_H_

// Room for the file descriptors of new pipes.
//
// A pipe takes several descriptors at the called end, one after another. When
// many callers come at once and the limit of open files is low, each of them
// would get its first descriptor and none its last one. So a listener begins a
// pipe only while there are descriptors for all of it. Its caller waits
// otherwise, for `kLongestWait` at most.

#ifndef REPRISE_AGENT_TRANSPORT_DESCRIPTOR_ROOM_H_
#define REPRISE_AGENT_TRANSPORT_DESCRIPTOR_ROOM_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "agent/runtime/fifo.h"
#include "agent/runtime/native_mutex.h"

namespace reprise {

// How many more files this process may open, less a reserve for listeners,
// stores and files: a sixteenth of the limit, between 4 and 16.
int64_t CountSpareDescriptors();

// Thread-safe. Must outlive the thread that it starts while somebody waits, so
// that of the process is never destroyed. Where there is always room, nobody
// waits.
class DescriptorRoom {
 public:
  // What a pipe takes at most at the called end, over all transports and
  // channels together.
  static constexpr int64_t kPerPipe = 8;
  // How long a new pipe may take its descriptors. What it has taken by then
  // counts for itself.
  static constexpr std::chrono::milliseconds kToTake{1000};
  static constexpr std::chrono::seconds kLongestWait{10};

  // While it is kept, room is reserved, for `kToTake` at most.
  using Ticket = std::shared_ptr<void>;
  // Called once, with no lock held, on any thread. Null: there was no room.
  using Begin = std::function<void(Ticket)>;

  // That of this process.
  static DescriptorRoom& OfProcess();

  // `count_spare` is called on any thread.
  explicit DescriptorRoom(std::function<int64_t()> count_spare,
                          std::chrono::milliseconds longest_wait = kLongestWait)
      : count_spare_(std::move(count_spare)), longest_wait_(longest_wait) {}

  // Calls `begin` once there is room, in the order in which the callers came;
  // within this call if there is room now.
  void Await(Begin begin);

 private:
  static constexpr std::chrono::milliseconds kBetweenLooks{50};

  // Looks now and then, until nobody waits.
  void Watch();
  // Begins what there is room for, and ends what has waited too long. Returns
  // whether somebody still waits.
  bool BeginWaiting();
  bool HasRoom() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Ticket Reserve() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  struct Reservation {
    std::chrono::steady_clock::time_point until;
    std::weak_ptr<void> ticket;
  };

  struct Waiter {
    std::chrono::steady_clock::time_point until;
    Begin begin;
  };

  const std::function<int64_t()> count_spare_;
  const std::chrono::milliseconds longest_wait_;
  NativeMutex mutex_;
  Fifo<Reservation> reservations_ ABSL_GUARDED_BY(mutex_);
  Fifo<Waiter> waiting_ ABSL_GUARDED_BY(mutex_);
  bool is_watched_ ABSL_GUARDED_BY(mutex_) = false;
  // How many were spare when they were last counted.
  int64_t spare_ ABSL_GUARDED_BY(mutex_) = 0;
  std::chrono::steady_clock::time_point counted_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise

#endif  // REPRISE_AGENT_TRANSPORT_DESCRIPTOR_ROOM_H_

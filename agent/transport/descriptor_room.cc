#include "agent/transport/descriptor_room.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <system_error>
#include <thread>

#include "agent/runtime/fifo.h"
#include "glog/logging.h"

namespace reprise {
namespace {

int64_t CountOpen() {
  constexpr char kFiles[] = "/proc/self/fd";
  struct stat directory = {};
  // Since Linux 6.2 its size is the number of its files.
  if (stat(kFiles, &directory) == 0 && directory.st_size > 0) {
    return directory.st_size;
  }
  std::error_code error;
  std::filesystem::directory_iterator file(kFiles, error);
  int64_t count = 0;
  while (!error && file != std::filesystem::directory_iterator()) {
    ++count;
    file.increment(error);
  }
  // Not to be read for want of a descriptor, or where there is no /proc.
  return error ? std::numeric_limits<int64_t>::max() : count;
}

// Of so many files. Where they cannot be counted, by the lowest number that is
// free: the system gives that out.
int64_t CountFree(int64_t limit) {
  const int64_t open = CountOpen();
  if (open <= limit) return limit - open;
  const int lowest = eventfd(0, EFD_CLOEXEC);
  if (lowest < 0) return 0;
  close(lowest);
  return limit - lowest;
}

}  // namespace

int64_t CountSpareDescriptors() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 ||
      limit.rlim_cur == RLIM_INFINITY) {
    return std::numeric_limits<int64_t>::max();
  }
  const auto most = static_cast<int64_t>(limit.rlim_cur);
  return CountFree(most) - std::clamp<int64_t>(most / 16, 4, 16);
}

DescriptorRoom& DescriptorRoom::OfProcess() {
  static DescriptorRoom* const room = new DescriptorRoom(CountSpareDescriptors);
  return *room;
}

void DescriptorRoom::Await(Begin begin) {
  Ticket ticket;
  bool starts_thread = false;
  {
    NativeMutexLock lock(mutex_);
    if (waiting_.empty() && HasRoom()) {
      ticket = Reserve();
    } else {
      starts_thread = !std::exchange(is_watched_, true);
      waiting_.push_back(
          {std::chrono::steady_clock::now() + longest_wait_, std::move(begin)});
    }
  }
  if (ticket != nullptr) return begin(std::move(ticket));
  if (!starts_thread) return;
  LOG_EVERY_N(WARNING, 100)
      << "callers wait until there are file descriptors for them: raise the "
      << "limit of open files";
  try {
    std::thread([this] { Watch(); }).detach();
  } catch (const std::system_error& error) {
    LOG(WARNING) << "no thread to wait for file descriptors: " << error.what();
    Fifo<Waiter> waiting;
    {
      NativeMutexLock lock(mutex_);
      waiting.swap(waiting_);
      is_watched_ = false;
    }
    for (const Waiter& waiter : waiting) waiter.begin(nullptr);
  }
}

void DescriptorRoom::Watch() {
  pthread_setname_np(pthread_self(), "reprise_room");
  do {
    std::this_thread::sleep_for(kBetweenLooks);
  } while (BeginWaiting());
}

bool DescriptorRoom::BeginWaiting() {
  while (true) {
    Ticket ticket;
    Begin begin;
    {
      NativeMutexLock lock(mutex_);
      if (waiting_.empty()) {
        is_watched_ = false;
        return false;
      }
      Waiter& first = waiting_.front();
      if (HasRoom()) {
        ticket = Reserve();
      } else if (std::chrono::steady_clock::now() < first.until) {
        return true;
      }
      begin = std::move(first.begin);
      waiting_.pop_front();
    }
    begin(std::move(ticket));
  }
}

bool DescriptorRoom::HasRoom() {
  const auto now = std::chrono::steady_clock::now();
  reservations_.EraseIf([now](const Reservation& reservation) {
    return reservation.until <= now || reservation.ticket.expired();
  });
  // Reservations count what happens between two counts.
  if (now - counted_ >= kBetweenLooks) {
    spare_ = count_spare_();
    counted_ = std::chrono::steady_clock::now();
  }
  const auto beginning = static_cast<int64_t>(reservations_.size());
  return spare_ >= kPerPipe * (beginning + 1);
}

DescriptorRoom::Ticket DescriptorRoom::Reserve() {
  Ticket ticket = std::make_shared<char>();
  reservations_.push_back({std::chrono::steady_clock::now() + kToTake, ticket});
  return ticket;
}

}  // namespace reprise

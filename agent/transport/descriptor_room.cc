#include "agent/transport/descriptor_room.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <limits>
#include <system_error>
#include <thread>

#include "glog/logging.h"

namespace reprise {
namespace {

// Up to this limit the open files are counted one by one.
constexpr int64_t kFew = 1024;

// `limit`: of open files.
int64_t CountFree(int64_t limit) {
  // The system gives out the lowest number that is free.
  const int lowest = eventfd(0, EFD_CLOEXEC);
  if (lowest < 0) return 0;
  close(lowest);
  if (limit > kFew && lowest < limit / 2) return limit - lowest;
  std::error_code error;
  const auto files =
      std::filesystem::directory_iterator("/proc/self/fd", error);
  if (error) return limit - lowest;
  return limit - std::distance(begin(files), end(files));
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
  bool is_first = false;
  {
    absl::MutexLock lock(&mutex_);
    if (waiting_.empty() && HasRoom()) {
      ticket = Reserve();
    } else {
      is_first = waiting_.empty();
      waiting_.push_back(
          {std::chrono::steady_clock::now() + longest_wait_, std::move(begin)});
    }
  }
  if (ticket != nullptr) return begin(std::move(ticket));
  if (!is_first) return;
  LOG_EVERY_N(WARNING, 100)
      << "callers wait until there are file descriptors for them: raise the "
      << "limit of open files";
  try {
    std::thread([this] { Watch(); }).detach();
  } catch (const std::system_error& error) {
    LOG(WARNING) << "no thread to wait for file descriptors: " << error.what();
    std::deque<Waiter> waiting;
    {
      absl::MutexLock lock(&mutex_);
      waiting.swap(waiting_);
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
      absl::MutexLock lock(&mutex_);
      if (waiting_.empty()) return false;
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
  std::erase_if(reservations_, [now](const Reservation& reservation) {
    return reservation.until <= now || reservation.ticket.expired();
  });
  const auto beginning = static_cast<int64_t>(reservations_.size());
  return count_spare_() >= kPerPipe * (beginning + 1);
}

DescriptorRoom::Ticket DescriptorRoom::Reserve() {
  Ticket ticket = std::make_shared<char>();
  reservations_.push_back({std::chrono::steady_clock::now() + kToTake, ticket});
  return ticket;
}

}  // namespace reprise

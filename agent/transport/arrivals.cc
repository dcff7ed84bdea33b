#include "agent/transport/arrivals.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

// This character is neither in a worker's name nor in what TensorPipe adds to
// an id.
constexpr char kMark = '#';

constexpr std::string_view kDigits = "0123456789";

}  // namespace

uint64_t PipeArrivals::NewPipe() {
  NativeMutexLock lock(mutex_);
  return ++last_pipe_;
}

std::string PipeArrivals::NameOf(std::string_view peer, uint64_t pipe) {
  return std::string(peer) + kMark + std::to_string(pipe);
}

std::pair<std::string_view, uint64_t> PipeArrivals::Parse(
    std::string_view name) {
  // A peer's own claim may hold the mark as well; ours is the last one.
  const size_t mark = name.rfind(kMark);
  if (mark == std::string_view::npos) return {name, 0};
  std::string_view number = name.substr(mark + 1);
  number = number.substr(0, number.find_first_not_of(kDigits));
  uint64_t pipe = 0;
  if (!absl::SimpleAtoi(absl::string_view(number.data(), number.size()),
                        &pipe)) {
    return {name, 0};
  }
  return {name.substr(0, mark), pipe};
}

void PipeArrivals::NumberCaller(tensorpipe::Packet& hello) {
  auto* const caller = hello.get<tensorpipe::SpontaneousConnection>();
  if (caller == nullptr) return;
  caller->contextName = NameOf(caller->contextName, NewPipe());
}

uint64_t PipeArrivals::Enter(std::string_view id, ArrivalClock* connection) {
  const uint64_t pipe = Parse(id).second;
  if (pipe == 0) return 0;
  NativeMutexLock lock(mutex_);
  EnterPipe(pipe, connection);
  return pipe;
}

void PipeArrivals::EnterPipe(uint64_t pipe, ArrivalClock* connection) {
  if (!pipe_of_.emplace(connection, pipe).second) return;
  pipes_[pipe].connections.insert(connection);
}

void PipeArrivals::Leave(ArrivalClock* connection) {
  std::function<void()> dropped;  // with no lock held
  NativeMutexLock lock(mutex_);
  const auto found = pipe_of_.find(connection);
  if (found == pipe_of_.end()) return;
  const auto pipe = pipes_.find(found->second);
  pipe->second.connections.erase(connection);
  if (pipe->second.connections.empty()) {
    dropped.swap(pipe->second.waiter);
    pipes_.erase(pipe);
  }
  pipe_of_.erase(found);
}

void PipeArrivals::NoteAnswer(uint64_t pipe,
                              const tensorpipe::BrochureAnswer& answer,
                              bool are_we_caller) {
  std::function<void()> waiter;
  {
    NativeMutexLock lock(mutex_);
    const auto found = pipes_.find(pipe);
    if (found == pipes_.end()) return;
    found->second.is_answered = true;
    for (const auto& [devices, channel] : answer.channelForDevicePair) {
      const auto& [callee, caller] = devices;
      if (callee.type == tensorpipe::kCpuDeviceType &&
          caller.type == tensorpipe::kCpuDeviceType) {
        continue;
      }
      found->second.channels.emplace(are_we_caller ? caller : callee,
                                     are_we_caller ? callee : caller);
    }
    waiter.swap(found->second.waiter);
  }
  if (waiter) waiter();
}

bool PipeArrivals::HasChannel(uint64_t pipe, const tensorpipe::Device& ours,
                              const tensorpipe::Device& theirs) {
  NativeMutexLock lock(mutex_);
  const auto found = pipes_.find(pipe);
  return found != pipes_.end() &&
         found->second.channels.count({ours, theirs}) > 0;
}

void PipeArrivals::WhenAnswered(uint64_t pipe, std::function<void()> answered) {
  {
    NativeMutexLock lock(mutex_);
    Pipe& waited_for = pipes_[pipe];
    if (!waited_for.is_answered) {
      waited_for.waiter = std::move(answered);
      return;
    }
  }
  answered();
}

void PipeArrivals::ForgetWaiter(uint64_t pipe) {
  std::function<void()> dropped;
  NativeMutexLock lock(mutex_);
  const auto found = pipes_.find(pipe);
  if (found == pipes_.end()) return;
  dropped.swap(found->second.waiter);
  if (found->second.connections.empty()) pipes_.erase(found);
}

void PipeArrivals::OfferLanes(
    uint64_t pipe, const tensorpipe::channel::mpt::ServerHello& hello) {
  if (pipe == 0) return;
  NativeMutexLock lock(mutex_);
  for (const auto& lane : hello.laneAdvertisements) {
    const Lane offer(lane.address, lane.registrationId);
    if (!offers_.insert_or_assign(offer, pipe).second) continue;
    oldest_offers_.push_back(offer);
    if (oldest_offers_.size() <= kMaxOffers) continue;
    offers_.erase(oldest_offers_.front());
    oldest_offers_.pop_front();
  }
}

void PipeArrivals::ClaimLane(const std::string& address,
                             const tensorpipe::channel::mpt::ClientHello& hello,
                             ArrivalClock* connection) {
  NativeMutexLock lock(mutex_);
  const auto found = offers_.find({address, hello.registrationId});
  if (found != offers_.end()) EnterPipe(found->second, connection);
}

size_t PipeArrivals::num_connections(uint64_t pipe) {
  NativeMutexLock lock(mutex_);
  const auto found = pipes_.find(pipe);
  return found == pipes_.end() ? 0 : found->second.connections.size();
}

absl::Duration PipeArrivals::SinceArrival(uint64_t pipe) {
  absl::Duration since = absl::InfiniteDuration();
  NativeMutexLock lock(mutex_);
  const auto found = pipes_.find(pipe);
  if (found == pipes_.end()) return since;
  for (ArrivalClock* const connection : found->second.connections) {
    since = std::min(since, connection->SinceArrival());
  }
  return since;
}

}  // namespace reprise

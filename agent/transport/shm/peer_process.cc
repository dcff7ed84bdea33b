#include "agent/transport/shm/peer_process.h"

#include <algorithm>

#include "agent/transport/shm/peer_identity.h"

namespace reprise::shm {
namespace {

// How many tokens of one process are taken before the next process has its
// turn.
constexpr size_t kTokensAtATime = 4096;

}  // namespace

PeerProcess::~PeerProcess() {
  if (is_polled_) loop_.RemovePolled(this);
}

int PeerProcess::Make(size_t queue_bytes) {
  if (const int error = queue_.Make(queue_bytes, files_); error != 0) {
    return error;
  }
  loop_.AddPolled(this);
  is_polled_ = true;
  return 0;
}

Tokens PeerProcess::Join(Member* member) {
  auto place = std::find(members_.begin(), members_.end(), nullptr);
  if (place == members_.end()) place = members_.insert(place, nullptr);
  *place = member;
  const auto slot = static_cast<uint32_t>(place - members_.begin());
  return {2 * slot, 2 * slot + 1};
}

void PeerProcess::Leave(Member* member) {
  const auto place = std::find(members_.begin(), members_.end(), member);
  if (place != members_.end()) *place = nullptr;
}

void PeerProcess::Work() {
  const bool is_good = queue_.Take(kTokensAtATime, [this](uint32_t token) {
    // A token that belongs to no member may be late, and is ignored.
    const size_t slot = token / 2;
    if (slot < members_.size() && members_[slot] != nullptr) {
      members_[slot]->OnToken();
    }
  });
  if (is_good) return;
  is_bad_ = true;
  for (Member* const member : members_) {
    if (member != nullptr) member->OnBadQueue();
  }
}

void PeerProcess::CheckLife() {
  const std::vector<Member*> members = members_;
  const auto any =
      std::find_if(members.begin(), members.end(),
                   [](const Member* member) { return member != nullptr; });
  if (any == members.end() || !HasPeerProcessEnded((*any)->socket())) return;
  for (Member* const member : members) {
    // One of them may have made another leave.
    if (member != nullptr &&
        std::find(members_.begin(), members_.end(), member) != members_.end()) {
      member->OnProcessEnd();
    }
  }
}

int PeerProcesses::Find(pid_t pid, size_t queue_bytes,
                        std::shared_ptr<PeerProcess>& process) {
  const std::pair key(pid, queue_bytes);
  if (const auto known = by_pid_.find(key); known != by_pid_.end()) {
    process = known->second.lock();
    if (process != nullptr && process->can_be_joined()) return 0;
  }
  process = std::make_shared<PeerProcess>(loop_);
  if (const int error = process->Make(queue_bytes); error != 0) return error;
  all_.push_back(process);
  if (pid > 0) by_pid_[key] = process;
  loop_.AddTimer(kKeepFilesNs, [weak = std::weak_ptr<PeerProcess>(process)] {
    if (const auto made = weak.lock()) made->CloseFiles();
  });
  if (check_.number == 0) {
    check_ = loop_.AddTimer(kCheckNs, [this] { CheckLives(); });
  }
  return 0;
}

void PeerProcesses::Close() { loop_.CancelTimer(check_); }

void PeerProcesses::CheckLives() {
  std::erase_if(all_, [](const auto& process) { return process.expired(); });
  std::erase_if(by_pid_,
                [](const auto& known) { return known.second.expired(); });
  check_ = {};
  if (all_.empty()) return;
  check_ = loop_.AddTimer(kCheckNs, [this] { CheckLives(); });
  for (const auto& weak : std::vector(all_)) {
    if (const auto process = weak.lock()) process->CheckLife();
  }
}

}  // namespace reprise::shm

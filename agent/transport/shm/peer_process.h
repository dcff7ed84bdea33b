// What the connections of one peer process share: the queue that it posts its
// tokens to, and the watch for its end.
//
// A process has a queue of its own, so that it can fill or lock nobody else's;
// its connections share it, so that a loop has few to look at. All of it is the
// loop's thread's.

#ifndef REPRISE_AGENT_TRANSPORT_SHM_PEER_PROCESS_H_
#define REPRISE_AGENT_TRANSPORT_SHM_PEER_PROCESS_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "agent/transport/shm/hello.h"
#include "agent/transport/shm/loop.h"
#include "agent/transport/shm/token_queue.h"

namespace reprise::shm {

class PeerProcess final : public Loop::Polled {
 public:
  // One connection of the process.
  class Member {
   public:
    virtual ~Member() = default;
    // A token has come. Not to leave in here.
    virtual void OnToken() = 0;
    // The process has put nonsense into the queue. Not to leave in here.
    virtual void OnBadQueue() = 0;
    // The process has ended.
    virtual void OnProcessEnd() = 0;
    virtual int socket() const = 0;
  };

  explicit PeerProcess(Loop& loop) : loop_(loop) {}
  ~PeerProcess() override;
  PeerProcess(const PeerProcess&) = delete;
  PeerProcess& operator=(const PeerProcess&) = delete;

  // 0 or an error of libuv's.
  int Make(size_t queue_bytes);
  // For the hello of a member; closed a while after the last one joined.
  const Ring::Files& files() const { return files_; }
  bool can_be_joined() const { return files_.header.is_open() && !is_bad_; }
  void CloseFiles() { files_ = {}; }

  // The tokens are the member's until it leaves.
  Tokens Join(Member* member);
  void Leave(Member* member);

  // Asks the kernel whether the process has ended, and tells the members.
  void CheckLife();

  bool HasWork() const override { return !is_bad_ && queue_.HasTokens(); }
  void Work() override;
  void SetAsleep(bool is_asleep) override { queue_.SetAsleep(is_asleep); }

 private:
  Loop& loop_;
  bool is_polled_ = false;
  bool is_bad_ = false;
  TokenQueue queue_;
  Ring::Files files_;
  std::vector<Member*> members_;  // null: free
};

// All peer processes of a context.
class PeerProcesses {
 public:
  explicit PeerProcesses(Loop& loop) : loop_(loop) {}

  // One that can be joined, of `pid`; a new one each time if that is 0. 0 or an
  // error of libuv's.
  int Find(pid_t pid, size_t queue_bytes,
           std::shared_ptr<PeerProcess>& process);
  // Ends what it does by itself.
  void Close();

 private:
  // How soon the end of a process is noticed that is not seen at the sockets.
  static constexpr int64_t kCheckNs = 1'000'000'000;
  // The connections of a pipe come within milliseconds of each other.
  static constexpr int64_t kKeepFilesNs = 1'000'000'000;

  void CheckLives();

  Loop& loop_;
  std::map<std::pair<pid_t, size_t>, std::weak_ptr<PeerProcess>> by_pid_;
  std::vector<std::weak_ptr<PeerProcess>> all_;
  Loop::TimerId check_;
};

}  // namespace reprise::shm

#endif  // REPRISE_AGENT_TRANSPORT_SHM_PEER_PROCESS_H_

// The thread of a shm context: it watches sockets and queues of tokens, runs
// what others defer to it, and sleeps when nothing happens.
//
// After something has happened it looks at the queues without pause for
// `kSpinNs`, because a peer that answers at once is then heard in a microsecond
// instead of fifty. Then it raises the flag of each queue and sleeps in epoll.
// A peer of TensorPipe's own transport cannot wake it: while there is one, its
// sleeps are short, `kLongestNapNs` at most.

#ifndef REPRISE_AGENT_TRANSPORT_SHM_LOOP_H_
#define REPRISE_AGENT_TRANSPORT_SHM_LOOP_H_

#include <sys/epoll.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "agent/transport/shm/file_descriptor.h"
#include "tensorpipe/common/deferred_executor.h"

namespace reprise::shm {

// All but `deferToLoop`, `inLoop` and `Join` is the loop's thread's.
class Loop final : public tensorpipe::EventLoopDeferredExecutor {
 public:
  static constexpr int64_t kSpinNs = 50'000;
  static constexpr int64_t kFirstNapNs = 20'000;
  static constexpr int64_t kLongestNapNs = 1'000'000;
  // The longest after a second in which nothing happened.
  static constexpr int64_t kIdleNapNs = 4'000'000;

  // Something that peers change without a word to the kernel.
  class Polled {
   public:
    virtual ~Polled() = default;
    virtual bool HasWork() const = 0;
    // May make things ready, but neither add nor remove anything polled.
    virtual void Work() = 0;
    virtual void SetAsleep(bool is_asleep) = 0;
  };
  class Ready {
   public:
    virtual ~Ready() = default;
    virtual void OnReady() = 0;
  };
  struct TimerId {
    int64_t deadline_ns = 0;
    uint64_t number = 0;  // 0: none
  };

  // Throws std::system_error for want of a thread or of descriptors.
  Loop();
  ~Loop() override;

  // Ends the thread once nothing retains it any more; waits for that.
  void Join();
  // From now on nothing new is begun, and what retains the loop ends soon.
  void Stop() { is_stopping_ = true; }
  bool is_stopping() const { return is_stopping_; }
  void Retain() { ++num_retained_; }
  void Release() { --num_retained_; }

  // Calls `done` with epoll's events of `fd` until `Unwatch` is called with the
  // number that is put in `watch`. 0 or an error of libuv's.
  int Watch(int fd, uint32_t events, std::function<void(uint32_t)> done,
            uint64_t& watch);
  void Unwatch(int fd, uint64_t watch);

  TimerId AddTimer(int64_t after_ns, std::function<void()> done);
  void CancelTimer(TimerId& timer);

  void AddPolled(Polled* polled) { polled_.push_back(polled); }
  void RemovePolled(Polled* polled);
  // Has it called once, soon, after all that is to be done before.
  void MakeReady(std::shared_ptr<Ready> ready) {
    ready_.push_back(std::move(ready));
  }
  // A peer that rings no bell.
  void AddStockPeer() { ++num_stock_peers_; }
  void RemoveStockPeer() { --num_stock_peers_; }

  static int64_t NowNs();

 protected:
  void eventLoop() override;
  void wakeupEventLoopToDeferFunction() override;

 private:
  bool RunDeferred();
  bool Poll();
  bool RunReady();
  bool RunTimers(int64_t now_ns);
  // How long to sleep at most; negative: until something happens.
  int64_t SleepNs(int64_t now_ns, int64_t last_work_ns);
  // True when something has happened.
  bool Sleep(int64_t timeout_ns);
  // Puts what has happened at the sockets into `events_`, and returns how much.
  int Wait(int64_t timeout_ns);
  // What `events_` begins with.
  void Dispatch(int count);

  const FileDescriptor epoll_;
  const FileDescriptor wake_up_;
  std::atomic<bool> is_closed_ = false;
  std::atomic<bool> is_asleep_ = false;
  std::atomic<int64_t> num_deferred_ = 0;

  bool is_stopping_ = false;
  int num_retained_ = 0;
  int num_stock_peers_ = 0;
  int64_t nap_ns_ = kFirstNapNs;
  uint64_t last_number_ = 0;
  std::unordered_map<uint64_t, std::function<void(uint32_t)>> watches_;
  std::map<std::pair<int64_t, uint64_t>, std::function<void()>> timers_;
  std::vector<Polled*> polled_;
  std::vector<std::shared_ptr<Ready>> ready_;
  std::array<epoll_event, 64> events_;
};

}  // namespace reprise::shm

#endif  // REPRISE_AGENT_TRANSPORT_SHM_LOOP_H_

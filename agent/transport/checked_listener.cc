#include "agent/transport/checked_listener.h"

#include <sys/resource.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "agent/runtime/native_mutex.h"
#include "agent/transport/descriptor_room.h"
#include "tensorpipe/common/error.h"
#include "tensorpipe/transport/error.h"

namespace reprise {

using tensorpipe::Error;
using tensorpipe::transport::Connection;
using tensorpipe::transport::Listener;

namespace {

size_t PartOfLimit(size_t divisor) {
  constexpr size_t kMost = 256;
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return kMost;
  return std::clamp<size_t>(limit.rlim_cur / divisor, 1, kMost);
}

}  // namespace

// The connections whose hellos are awaited, or that nobody has asked for yet.
// Thread-safe. The closures of the inner listener and of the connections keep
// it alive until it is closed.
class CheckedListener::Greetings
    : public std::enable_shared_from_this<Greetings> {
 public:
  Greetings(std::shared_ptr<const CheckedCommon> common,
            std::shared_ptr<Listener> inner, DescriptorRoom& room)
      : common_(std::move(common)), inner_(std::move(inner)), room_(room) {}

  void Accept(accept_callback_fn done) {
    Error error;
    std::shared_ptr<Connection> greeted;
    bool begins = false;
    {
      NativeMutexLock lock(mutex_);
      error = error_;
      if (!error && greeted_.empty()) {
        wanted_.push_back(std::move(done));
        begins = !std::exchange(is_accepting_, true);
      } else if (!error) {
        greeted = std::move(greeted_.front());
        greeted_.pop_front();
      }
    }
    if (error || greeted != nullptr) {
      done(error, std::move(greeted));
    } else if (begins) {
      AcceptNext();
    }
  }

  void Close() {
    Fail({std::make_shared<tensorpipe::transport::ListenerClosedError>(),
          __FILE__, __LINE__});
    inner_->close();
  }

 private:
  void AcceptNext() {
    inner_->accept([self = shared_from_this()](
                       const Error& error, std::shared_ptr<Connection> inner) {
      if (error) return self->Fail(error);
      self->AwaitHello(std::move(inner));
      self->AcceptNext();
    });
  }

  void AwaitHello(std::shared_ptr<Connection> inner) {
    const std::shared_ptr<CheckedConnection> connection =
        CheckedConnection::Make(common_, std::move(inner),
                                /*is_caller=*/false, inner_->addr());
    std::shared_ptr<CheckedConnection> dropped;
    uint64_t number = 0;
    {
      NativeMutexLock lock(mutex_);
      if (error_) return;
      number = ++last_number_;
      pending_.emplace(number, connection);
      if (pending_.size() - without_room_.size() > MaxUngreeted()) {
        auto oldest = pending_.begin();
        while (without_room_.contains(oldest->first)) ++oldest;
        dropped = Take(oldest->first);
      }
    }
    connection->ReadHello(
        [self = shared_from_this(), number](CheckedConnection::Hello hello) {
          self->OnHello(number, hello);
        });
    if (dropped != nullptr) dropped->close();
  }

  void OnHello(uint64_t number, CheckedConnection::Hello hello) {
    switch (hello) {
      case CheckedConnection::Hello::kNone:
        return Drop(number);
      case CheckedConnection::Hello::kForPipe:
        return HandOver(number, nullptr);
      case CheckedConnection::Hello::kNewPipe:
        return AwaitRoom(number);
    }
  }

  void AwaitRoom(uint64_t number) {
    std::shared_ptr<CheckedConnection> dropped;
    {
      NativeMutexLock lock(mutex_);
      if (pending_.count(number) == 0) return;
      without_room_.insert(number);
    }
    room_.Await(
        [weak = weak_from_this(), number](DescriptorRoom::Ticket ticket) {
          const auto self = weak.lock();
          if (self == nullptr) return;
          if (ticket == nullptr) return self->Drop(number);
          self->HandOver(number, std::move(ticket));
        });
    {
      NativeMutexLock lock(mutex_);
      if (without_room_.size() > MaxWithoutRoom()) {
        dropped = Take(*without_room_.begin());
      }
    }
    if (dropped != nullptr) dropped->close();
  }

  // Null when it was dropped before.
  std::shared_ptr<CheckedConnection> Take(uint64_t number)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    without_room_.erase(number);
    auto taken = pending_.extract(number);
    return taken.empty() ? nullptr : std::move(taken.mapped());
  }

  void Drop(uint64_t number) {
    std::shared_ptr<CheckedConnection> connection;
    {
      NativeMutexLock lock(mutex_);
      connection = Take(number);
    }
    if (connection != nullptr) connection->close();
  }

  void HandOver(uint64_t number, DescriptorRoom::Ticket ticket) {
    std::shared_ptr<CheckedConnection> connection;
    accept_callback_fn done;
    {
      NativeMutexLock lock(mutex_);
      connection = Take(number);
      if (connection == nullptr) return;
      connection->Keep(std::move(ticket));
      if (wanted_.empty()) {
        greeted_.push_back(std::move(connection));
        return;
      }
      done = std::move(wanted_.front());
      wanted_.pop_front();
      // Before the end of the listener is seen, and so before the join.
      common_->foreign_calls->Begin();
    }
    done(Error::kSuccess, std::move(connection));
    common_->foreign_calls->End();
  }

  void Fail(const Error& error) {
    std::deque<accept_callback_fn> wanted;
    std::deque<std::shared_ptr<Connection>> greeted;
    std::map<uint64_t, std::shared_ptr<CheckedConnection>> pending;
    {
      NativeMutexLock lock(mutex_);
      if (error_) return;
      error_ = error;
      wanted.swap(wanted_);
      greeted.swap(greeted_);
      pending.swap(pending_);
      without_room_.clear();
    }
    for (const accept_callback_fn& done : wanted) done(error, nullptr);
    for (const auto& connection : greeted) connection->close();
    for (const auto& [number, connection] : pending) connection->close();
  }

  const std::shared_ptr<const CheckedCommon> common_;
  const std::shared_ptr<Listener> inner_;
  DescriptorRoom& room_;

  NativeMutex mutex_;
  Error error_ ABSL_GUARDED_BY(mutex_);
  bool is_accepting_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t last_number_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, std::shared_ptr<CheckedConnection>> pending_
      ABSL_GUARDED_BY(mutex_);
  // Of the pending ones, those that wait for descriptors: their hellos have
  // come.
  std::set<uint64_t> without_room_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::shared_ptr<Connection>> greeted_ ABSL_GUARDED_BY(mutex_);
  std::deque<accept_callback_fn> wanted_ ABSL_GUARDED_BY(mutex_);
};

size_t CheckedListener::MaxUngreeted() { return PartOfLimit(4); }

size_t CheckedListener::MaxWithoutRoom() { return PartOfLimit(16); }

CheckedListener::CheckedListener(std::shared_ptr<const CheckedCommon> common,
                                 std::shared_ptr<Listener> inner,
                                 bool is_for_core, DescriptorRoom& room)
    : common_(std::move(common)), inner_(std::move(inner)) {
  if (is_for_core) {
    greetings_ = std::make_shared<Greetings>(common_, inner_, room);
  }
}

CheckedListener::~CheckedListener() {
  if (greetings_ != nullptr) greetings_->Close();
}

void CheckedListener::accept(accept_callback_fn done) {
  if (greetings_ != nullptr) return greetings_->Accept(std::move(done));
  inner_->accept(
      [common = common_, address = inner_->addr(), done = std::move(done)](
          const Error& error, std::shared_ptr<Connection> inner) {
        std::shared_ptr<Connection> connection;
        if (inner != nullptr) {
          connection = CheckedConnection::Make(common, std::move(inner),
                                               /*is_caller=*/false, address);
        }
        done(error, std::move(connection));
      });
}

void CheckedListener::close() {
  if (greetings_ != nullptr) {
    greetings_->Close();
  } else {
    inner_->close();
  }
}

}  // namespace reprise

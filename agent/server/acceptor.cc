#include "agent/server/acceptor.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "agent/group/rendezvous.h"
#include "agent/pipe/message_reader.h"
#include "agent/planted.h"
#include "agent/probe.h"
#include "glog/logging.h"

namespace reprise {
namespace {

// A pipe that arrives while no accept is armed is leaked by TensorPipe when the
// listener is closed.
constexpr int kAcceptsArmed = 4;

constexpr absl::Duration kFirstPause = absl::Milliseconds(100);
constexpr absl::Duration kLongestPause = absl::Seconds(5);

// A store that hangs is waited for no longer than this, and asked again later.
constexpr absl::Duration kLongestPublish = absl::Seconds(1);

}  // namespace

Acceptor::Acceptor(
    Runtime& runtime, Timer& timer, ThreadPool& connector,
    tensorpipe::Context& context, const std::vector<TransportEntry>& transports,
    std::shared_ptr<Store> store, std::string address_key,
    absl::Duration store_timeout, Observer* observer,
    std::function<void(std::shared_ptr<tensorpipe::Pipe>)> on_pipe)
    : runtime_(runtime),
      timer_(timer),
      connector_(connector),
      context_(context),
      store_(std::move(store)),
      address_key_(std::move(address_key)),
      store_timeout_(store_timeout),
      observer_(observer),
      on_pipe_(std::move(on_pipe)),
      pause_(kFirstPause),
      mutex_(runtime, "Acceptor") {
  int64_t lowest = 0;
  for (const TransportEntry& transport : transports) {
    listen_urls_.push_back(
        absl::StrCat(transport.name, "://", transport.address));
    if (transport.try_to_listen) {
      try_to_listen_.push_back(transport.try_to_listen);
    }
    if (published_transport_.empty() || transport.priority < lowest) {
      published_transport_ = transport.name;
      lowest = transport.priority;
    }
  }
}

absl::Status Acceptor::Listen() {
  for (const auto& try_to_listen : try_to_listen_) {
    const absl::Status status = try_to_listen();
    if (!status.ok()) return CannotListen(std::string(status.message()));
  }
  std::shared_ptr<tensorpipe::Listener> listener;
  try {
    listener = context_.listen(listen_urls_);
  } catch (const std::exception& error) {
    return CannotListen(error.what());
  }
  for (const auto& [transport, address] : listener->addresses()) {
    if (!address.empty()) continue;
    return CannotListen(
        absl::StrCat(transport, " cannot listen there any more"));
  }
  // The old listener is destroyed when this returns: not in a callback, and
  // with no lock held.
  std::shared_ptr<tensorpipe::Listener> old = listener;
  uint64_t generation = 0;
  {
    MutexLock lock(mutex_);
    if (closed_) return absl::CancelledError("the agent is stopping");
    old.swap(listener_);
    generation = ++generation_;
    failed_ = false;
  }
  for (int i = 0; i < kAcceptsArmed; ++i) Arm(listener, generation);
  return absl::OkStatus();
}

absl::Status Acceptor::CannotListen(const std::string& why) const {
  return absl::UnavailableError(absl::StrCat(
      "cannot listen at ", absl::StrJoin(listen_urls_, ", "), ": ", why));
}

std::string Acceptor::url() {
  std::shared_ptr<tensorpipe::Listener> listener;
  {
    MutexLock lock(mutex_);
    listener = listener_;
  }
  return listener == nullptr ? "" : listener->url(published_transport_);
}

void Acceptor::Published(const std::string& address) {
  VLOG(1) << "listening at " << address;
  {
    MutexLock lock(mutex_);
    published_ = address;
  }
  Announce(address);
}

void Acceptor::Announce(const std::string& address) {
  {
    MutexLock lock(mutex_);
    if (announced_ == address) return;
    announced_ = address;
  }
  if (observer_ != nullptr) observer_->OnListening(address);
}

void Acceptor::Arm(const std::shared_ptr<tensorpipe::Listener>& listener,
                   uint64_t generation) {
  listener->accept([this, generation](const tensorpipe::Error& error,
                                      std::shared_ptr<tensorpipe::Pipe> pipe) {
    OnAccept(generation, error, std::move(pipe));
  });
}

void Acceptor::OnAccept(uint64_t generation, const tensorpipe::Error& error,
                        std::shared_ptr<tensorpipe::Pipe> pipe) {
  if (error) {
    {
      MutexLock lock(mutex_);
      if (closed_ || failed_ || generation != generation_) return;
      failed_ = true;
    }
    const absl::Status status = absl::UnavailableError(
        absl::StrCat("the listener failed: ", Describe(error)));
    LOG(WARNING) << status.message() << "; opening another one";
    if (observer_ != nullptr) observer_->OnListenerFailed(status);
    if (!REPRISE_PLANTED(stale_listener)) {
      Run(&Acceptor::Reopen);
    }
    return;
  }
  std::shared_ptr<tensorpipe::Listener> listener;
  {
    MutexLock lock(mutex_);
    if (generation == generation_) listener = listener_;
  }
  if (listener != nullptr) Arm(listener, generation);
  on_pipe_(std::move(pipe));
}

void Acceptor::Run(void (Acceptor::*step)()) {
  if (connector_.Run([this, step] { (this->*step)(); })) return;
  timer_.Schedule(runtime_.Now() + kFirstPause, [this, step] { Run(step); });
}

void Acceptor::Reopen() {
  const absl::Status status = Listen();
  if (absl::IsCancelled(status)) return;
  if (!status.ok()) {
    LOG(WARNING) << status.message();
    if (!REPRISE_PLANTED(listener_gives_up)) TryLater(&Acceptor::Reopen);
    return;
  }
  ++num_reopens_;
  pause_ = kFirstPause;
  Publish();
}

void Acceptor::Publish() {
  const absl::Time deadline =
      runtime_.Now() + std::min(store_timeout_, kLongestPublish);
  const std::string address = url();
  if (address.empty()) return;
  std::string present;
  {
    MutexLock lock(mutex_);
    present = published_;
  }
  // Only the start publishes the first address: what others must know before
  // they find it is in the store by then.
  if (present.empty()) return;
  const absl::StatusOr<bool> replaced =
      ReplaceValue(*store_, address_key_, present, address, deadline);
  if (!replaced.ok()) {
    VLOG(1) << "cannot publish the address " << address << ": "
            << replaced.status();
    TryLater(&Acceptor::Publish);
    return;
  }
  pause_ = kFirstPause;
  if (!*replaced) {
    // We have left or were replaced.
    REPRISE_PROBE("address is that of a successor");
    VLOG(1) << address_key_ << " is '" << present << "' by now and stays so";
    return;
  }
  Published(address);
}

void Acceptor::TryLater(void (Acceptor::*step)()) {
  timer_.Schedule(runtime_.Now() + pause_, [this, step] { Run(step); });
  pause_ = std::min(2 * pause_, kLongestPause);
}

void Acceptor::Close() {
  std::shared_ptr<tensorpipe::Listener> listener;
  {
    MutexLock lock(mutex_);
    closed_ = true;
    listener.swap(listener_);
  }
  if (listener != nullptr) listener->close();
}

}  // namespace reprise

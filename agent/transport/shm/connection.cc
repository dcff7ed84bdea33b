#include "agent/transport/shm/connection.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "agent/transport/shm/lingering.h"
#include "agent/transport/shm/ring_frames.h"
#include "agent/transport/shm/socket_address.h"
#include "agent/transport/uv/error.h"
#include "glog/logging.h"
#include "tensorpipe/transport/error.h"
#include "uv.h"

namespace reprise::shm {
namespace {

// TensorPipe's own ends write an object only as a whole, and fail when it is
// longer than the ring. They may fill the queue with as many tokens as there
// can be frames in two rings.
constexpr size_t kStockInboxBytes = size_t{2} << 20;
constexpr size_t kStockQueueBytes = size_t{4} << 20;
// Between two of our own ends, smaller rings do as well.
constexpr size_t kInboxBytes = size_t{256} << 10;
constexpr size_t kQueueBytes = size_t{64} << 10;

// Bytes that are copied before another connection has its turn.
constexpr size_t kTurnBytes = size_t{1} << 20;

// How often a connect is tried again while the listener's queue is full, and
// for how long.
constexpr int64_t kConnectPauseNs = 5'000'000;
constexpr int64_t kConnectNs = 10'000'000'000;
// How often a token is posted again while the peer's queue is full or locked.
constexpr int64_t kFirstRetryNs = 50'000;
constexpr int64_t kLongestRetryNs = 10'000'000;

constexpr size_t kMaxPrintedId = 100;

}  // namespace

void Connection::Connect(const std::string& address) {
  if (context_->is_closed()) return Close();
  context_->Add(shared_from_this());
  {
    const std::lock_guard<std::mutex> lock(socket_mutex_);
    socket_ = FileDescriptor(
        ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  }
  if (!socket_.is_open()) return Fail(uv_translate_sys_error(errno));
  TryToConnect(address, Loop::NowNs() + kConnectNs);
}

void Connection::TryToConnect(const std::string& address, int64_t until_ns) {
  SocketAddress peer;
  int error = address.empty() ? UV_EINVAL : peer.Set(address);
  if (error == 0 && connect(socket_.get(), peer.get(), peer.size()) != 0) {
    error = uv_translate_sys_error(errno);
  }
  if (error == UV_EAGAIN && Loop::NowNs() < until_ns) {
    // The listener's queue of connections is full.
    timer_ = context_->loop().AddTimer(
        kConnectPauseNs, [self = shared_from_this(), address, until_ns] {
          self->TryToConnect(address, until_ns);
        });
    return;
  }
  if (error != 0) return Fail(error);
  awaits_hello_ = true;
  error = WatchSocket();
  if (error == 0) error = Greet(kStockInboxBytes, kStockQueueBytes);
  if (error != 0) Fail(error);
}

int Connection::Adopt(FileDescriptor socket, PeerHello hello) {
  socket_ = std::move(socket);
  auto outbox = std::make_unique<Outbox>();
  int error = outbox->Map(hello, IdentifyPeer(socket_.get()).is_same_user);
  hello = {};  // closes its descriptors before ours are made
  const bool is_ours = outbox->queue.is_ours();
  if (error == 0) {
    error = Greet(is_ours ? kInboxBytes : kStockInboxBytes,
                  is_ours ? kQueueBytes : kStockQueueBytes);
  }
  if (error == 0) error = WatchSocket();
  if (error != 0) {
    Abandon();
    return error;
  }
  context_->Add(shared_from_this());
  Establish(std::move(outbox));
  return 0;
}

int Connection::Greet(size_t inbox_bytes, size_t queue_bytes) {
  peer_ = IdentifyPeer(socket_.get());
  {
    const std::lock_guard<std::mutex> lock(socket_mutex_);
    peer_pid_ = peer_.pid;
  }
  Ring::Files inbox;
  if (const int error = inbox_.Make(inbox_bytes, inbox); error != 0) {
    return error;
  }
  if (const int error =
          context_->processes().Find(peer_.pid, queue_bytes, process_);
      error != 0) {
    process_ = nullptr;
    return error;
  }
  const Tokens tokens = process_->Join(this);
  return SendHello(socket_.get(), tokens, process_->files(), inbox);
}

int Connection::WatchSocket() {
  return context_->loop().Watch(
      socket_.get(), EPOLLIN | EPOLLRDHUP,
      [self = shared_from_this()](uint32_t events) { self->OnSocket(events); },
      watch_);
}

void Connection::OnSocket(uint32_t events) {
  if (error_ || has_ended_) return;
  if (awaits_hello_) OnHello();
  if (!is_established()) return;
  if ((events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) != 0) return OnEnd();
  OnBytes();
}

void Connection::OnHello() {
  PeerHello hello;
  int error = ReceiveHello(socket_.get(), hello);
  if (error == UV_EAGAIN) return;
  // If there were too few file descriptors, the hello is still in the socket.
  awaits_hello_ = error == UV_EMFILE;
  auto outbox = std::make_unique<Outbox>();
  if (error == 0) error = outbox->Map(hello, peer_.is_same_user);
  if (error != 0) return Fail(error);
  Establish(std::move(outbox));
}

void Connection::Establish(std::unique_ptr<Outbox> outbox) {
  outbox_ = std::move(outbox);
  is_established_ = true;
  if (!outbox_->queue.is_ours()) context_->loop().AddStockPeer();
  WakeSoon();
}

void Connection::OnBytes() {
  // Only a peer that runs our code sends bytes, to wake us.
  char bytes[256];
  const ssize_t size = recv(socket_.get(), bytes, sizeof(bytes), MSG_DONTWAIT);
  if (size > 0 && !outbox_->queue.is_ours()) return Fail(UV_EPROTO);
  if (size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR)) OnEnd();
}

void Connection::OnEnd() {
  if (error_ || has_ended_) return;
  if (!is_established()) return Fail(UV_EOF);
  context_->loop().Unwatch(socket_.get(), watch_);
  // What the peer wrote before it closed is in the ring by now, and is read
  // first.
  if (!in_.Refresh()) return Fail(UV_EPROTO);
  has_ended_ = true;
  FailWrites();
  WakeSoon();
}

void Connection::OnToken() {
  last_token_ns_ = Loop::NowNs();
  WakeSoon();
}

absl::Duration Connection::SinceToken() const {
  const int64_t last_ns = last_token_ns_;
  return last_ns == 0 ? absl::InfiniteDuration()
                      : absl::Nanoseconds(Loop::NowNs() - last_ns);
}

void Connection::OnBadQueue() {
  context_->loop().AddTimer(
      0, [self = shared_from_this()] { self->Fail(UV_EPROTO); });
}

void Connection::WakeSoon() {
  if (std::exchange(is_ready_, true)) return;
  context_->loop().MakeReady(shared_from_this());
}

void Connection::OnReady() {
  is_ready_ = false;
  if (is_established()) ReadFrames();
  if (is_established() && !has_ended_) WriteFrames(kTurnBytes);
}

void Connection::Read(ReadDone done) {
  if (error_) return done(error_, nullptr, 0);
  reader_.ReadUpTo(kLongestObject, std::move(done));
  WakeSoon();
}

void Connection::Read(void* into, size_t length, ReadDone done) {
  if (error_) return done(error_, into, length);
  reader_.Read(into, length, std::move(done));
  WakeSoon();
}

void Connection::ReadFrames() {
  size_t total = 0;
  while (reader_.is_waiting()) {
    if (!has_ended_ && !in_.Refresh()) return Fail(UV_EPROTO);
    const uint64_t before = in_.readable();
    if (!TakeFrames(in_, reader_, outbox_->queue.is_ours())) {
      return Fail(UV_EPROTO);
    }
    const size_t size = before - in_.readable();
    if (size == 0) break;
    in_.Publish();
    if (!has_ended_) Notify(PeerQueue::kRead);
    total += size;
    if (total >= kTurnBytes) return WakeSoon();
  }
  if (has_ended_ && (in_.readable() == 0 || reader_.is_waiting())) {
    Fail(UV_EOF);
  }
}

void Connection::Add(Write write) {
  if (error_) return write.done(error_);
  if (has_ended_) return write.done(UvErrorOf(UV_EOF));
  writes_.push_back(std::move(write));
  WakeSoon();
}

void Connection::WriteFrames(size_t most) {
  size_t total = 0;
  while (!writes_.empty()) {
    const uint64_t before = outbox_->writer.written();
    std::deque<Write> done;
    if (!outbox_->writer.Refresh()) return Fail(UV_EPROTO);
    const int error = CopyWrites(done);
    const size_t size = outbox_->writer.written() - before;
    if (size > 0) {
      outbox_->writer.Publish();
      Notify(PeerQueue::kWritten);
    }
    for (const Write& write : done) write.done(error_);
    if (error != 0) return Fail(error);
    if (size == 0) return;
    total += size;
    if (total >= most) return WakeSoon();
  }
}

int Connection::CopyWrites(std::deque<Write>& done) {
  RingWriter& writer = outbox_->writer;
  size_t total = 0;
  while (!writes_.empty() && total < kPieceBytes) {
    const Write& write = writes_.front();
    if (!is_header_written_) {
      const bool is_ours = outbox_->queue.is_ours();
      const std::string header = FrameHeader(write.length, is_ours);
      // TensorPipe's own reader waits until a whole object is in the ring.
      if (header.empty() || (write.object != nullptr && !is_ours &&
                             header.size() + write.length > writer.size())) {
        return UV_EMSGSIZE;
      }
      if (writer.writable() < header.size()) return 0;
      writer.Append(header.data(), header.size());
      is_header_written_ = true;
    }
    const size_t size = std::min<uint64_t>(
        {write.length - written_, writer.writable(), kPieceBytes});
    if (size > 0) {
      writer.Append(static_cast<const char*>(write.bytes) + written_, size);
    }
    total += size;
    written_ += size;
    if (written_ < write.length) {
      if (writer.writable() == 0) return 0;
      continue;
    }
    done.push_back(std::move(writes_.front()));
    writes_.pop_front();
    is_header_written_ = false;
    written_ = 0;
  }
  return 0;
}

void Connection::FailWrites() {
  const tensorpipe::Error error = error_ ? error_ : UvErrorOf(UV_EOF);
  for (const Write& write : std::exchange(writes_, {})) write.done(error);
}

void Connection::Notify(unsigned events) {
  outbox_->queue.Post(events, socket_.get());
  if (outbox_->queue.is_owing() && retry_.number == 0) {
    RetryNotifying(kFirstRetryNs);
  }
}

void Connection::RetryNotifying(int64_t pause_ns) {
  retry_ = context_->loop().AddTimer(
      pause_ns, [self = shared_from_this(), pause_ns] {
        self->retry_ = {};
        if (!self->is_established() || self->has_ended_) return;
        self->outbox_->queue.Post(0, self->socket_.get());
        if (self->outbox_->queue.is_owing()) {
          self->RetryNotifying(std::min(2 * pause_ns, kLongestRetryNs));
        }
      });
}

void Connection::Close() {
  // What the ring has room for still goes out.
  if (is_established() && !has_ended_) WriteFrames(SIZE_MAX);
  SetError({std::make_shared<tensorpipe::transport::ConnectionClosedError>(),
            __FILE__, __LINE__});
}

void Connection::CloseSoon() {
  context_->loop().AddTimer(0, [self = shared_from_this()] { self->Close(); });
}

void Connection::Fail(int uv_error) {
  LOG_IF_EVERY_N(WARNING, uv_error == UV_EPROTO && !error_, 100)
      << "the peer of the shm connection "
      << absl::CHexEscape(id_.substr(0, kMaxPrintedId))
      << " does not speak TensorPipe's protocol: the connection is closed";
  SetError(UvErrorOf(uv_error));
}

void Connection::SetError(tensorpipe::Error error) {
  if (error_) return;
  error_ = std::move(error);
  const std::shared_ptr<Connection> self = shared_from_this();
  // The peer learns of the error before the callbacks below allow the reuse of
  // memory whose address it was told.
  Abandon();
  reader_.Fail(error_);
  FailWrites();
  context_->Remove(this);
}

void Connection::Abandon() {
  Loop& loop = context_->loop();
  loop.CancelTimer(timer_);
  loop.CancelTimer(retry_);
  if (watch_ != 0 && !has_ended_) loop.Unwatch(socket_.get(), watch_);
  if (process_ != nullptr) process_->Leave(this);
  process_ = nullptr;
  FileDescriptor socket;
  {
    const std::lock_guard<std::mutex> lock(socket_mutex_);
    std::swap(socket, socket_);
  }
  if (!socket.is_open()) return;
  inbox_ = Ring();
  std::unique_ptr<Outbox> outbox = std::move(outbox_);
  if (awaits_hello_) {
    return Lingering::Start(loop, std::move(socket), nullptr);
  }
  if (outbox != nullptr && !outbox->queue.is_ours()) {
    loop.RemoveStockPeer();
    if (!has_ended_) {
      return Lingering::Start(loop, std::move(socket), std::move(outbox));
    }
  }
  shutdown(socket.get(), SHUT_RDWR);
}

bool Connection::IsPeerOpen() {
  const std::lock_guard<std::mutex> lock(socket_mutex_);
  return socket_.is_open() && IsSocketOpen(socket_.get()) &&
         !HasPeerProcessEnded(socket_.get());
}

std::optional<pid_t> Connection::PeerPid() {
  const std::lock_guard<std::mutex> lock(socket_mutex_);
  if (peer_pid_ <= 0) return std::nullopt;
  return peer_pid_;
}

}  // namespace reprise::shm

// A connection of the transport shm.
//
// Each end has an inbox that the other writes to, in shared memory, and a
// socket that carries the hellos, a byte when a sleeping peer of ours is to be
// woken, and the news of the end.

#ifndef REPRISE_AGENT_TRANSPORT_SHM_CONNECTION_H_
#define REPRISE_AGENT_TRANSPORT_SHM_CONNECTION_H_

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "agent/transport/shm/context_core.h"
#include "agent/transport/shm/file_descriptor.h"
#include "agent/transport/shm/hello.h"
#include "agent/transport/shm/loop.h"
#include "agent/transport/shm/outbox.h"
#include "agent/transport/shm/peer_identity.h"
#include "agent/transport/shm/peer_process.h"
#include "agent/transport/shm/ring.h"
#include "agent/transport/uv/frame_reader.h"
#include "tensorpipe/common/error.h"
#include "tensorpipe/transport/connection.h"

namespace reprise::shm {

// The loop's thread's, but for `IsPeerOpen`, `PeerPid` and `SinceToken`. Kept
// alive by the context until it is closed or has failed.
class Connection final : public PeerProcess::Member,
                         public Loop::Ready,
                         public std::enable_shared_from_this<Connection> {
 public:
  using ReadDone = tensorpipe::transport::Connection::read_callback_fn;
  using WriteDone = tensorpipe::transport::Connection::write_callback_fn;

  struct Write {
    const void* bytes;
    size_t length;
    WriteDone done;
    std::shared_ptr<std::string> object;  // holds `bytes`, if they are one
  };

  explicit Connection(std::shared_ptr<ContextCore> context)
      : context_(std::move(context)) {}

  // Connects. What is in the way is an error of the connection.
  void Connect(const std::string& address);
  // Of an accepted socket, whose peer has said hello. 0 or an error of libuv's;
  // then it is as if there had been no connection.
  int Adopt(FileDescriptor socket, PeerHello hello);

  // Wants a frame of at most `kLongestObject` bytes.
  void Read(ReadDone done);
  // Wants a frame of `length` bytes.
  void Read(void* into, size_t length, ReadDone done);
  void Add(Write write);
  void Close();
  // From inside a callback.
  void CloseSoon();
  void SetId(std::string id) { id_ = std::move(id); }

  bool IsPeerOpen();
  // How long ago the peer last told that it has written or read some bytes.
  // Infinite before that.
  absl::Duration SinceToken() const;
  std::optional<pid_t> PeerPid();

  void OnToken() override;
  void OnBadQueue() override;
  void OnProcessEnd() override { OnEnd(); }
  int socket() const override { return socket_.get(); }
  void OnReady() override;

 private:
  void TryToConnect(const std::string& address, int64_t until_ns);
  int Greet(size_t inbox_bytes, size_t queue_bytes);
  void Establish(std::unique_ptr<Outbox> outbox);
  int WatchSocket();
  void OnSocket(uint32_t events);
  void OnHello();
  void OnBytes();
  // No more will be written to the inbox.
  void OnEnd();
  void WakeSoon();
  void ReadFrames();
  // Stops after about `most` bytes, to go on soon.
  void WriteFrames(size_t most);
  // Copies what there is room for; the finished are moved to `done`. 0 or an
  // error of libuv's.
  int CopyWrites(std::deque<Write>& done);
  void FailWrites();
  void Notify(unsigned events);
  void RetryNotifying(int64_t pause_ns);
  bool is_established() const { return is_established_ && !error_; }
  void Fail(int uv_error);
  void SetError(tensorpipe::Error error);
  // Lets go of all that it has of the peer.
  void Abandon();

  const std::shared_ptr<ContextCore> context_;
  std::string id_;
  bool awaits_hello_ = false;
  bool is_established_ = false;
  tensorpipe::Error error_;
  PeerIdentity peer_;

  // Guards the descriptor against being closed under another thread; the
  // loop's thread alone changes it.
  std::mutex socket_mutex_;
  FileDescriptor socket_;
  pid_t peer_pid_ = 0;  // guarded by it, too
  uint64_t watch_ = 0;
  Loop::TimerId timer_;
  Loop::TimerId retry_;

  Ring inbox_;
  RingReader in_{inbox_};
  FrameReader reader_;
  bool has_ended_ = false;
  std::shared_ptr<PeerProcess> process_;
  std::unique_ptr<Outbox> outbox_;
  std::deque<Write> writes_;
  // Of the first of them.
  bool is_header_written_ = false;
  size_t written_ = 0;
  bool is_ready_ = false;
  std::atomic<int64_t> last_token_ns_ = 0;
};

}  // namespace reprise::shm

#endif  // REPRISE_AGENT_TRANSPORT_SHM_CONNECTION_H_

// The loop of a TCPStore server: one thread that serves all clients, and waits
// for none of them.

#ifndef REPRISE_AGENT_STORE_TCP_STORE_LOOP_H_
#define REPRISE_AGENT_STORE_TCP_STORE_LOOP_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "agent/runtime/runtime.h"
#include "agent/store/posix_file.h"
#include "agent/store/tcp_listener.h"
#include "agent/store/tcp_store_client.h"
#include "agent/store/tcp_store_server.h"
#include "agent/store/tcp_store_table.h"

namespace reprise {

// `Run` is called on a thread of its own; `counts` is thread-safe.
class TcpStoreLoop {
 public:
  // `epoll` is a new file of epoll(7). `runtime` and `stop` must outlive it.
  TcpStoreLoop(Runtime& runtime, const TcpStoreServerOptions& options,
               TcpListener listener, FileDescriptor epoll, int stop);

  // False if the system has no memory for what `Run` waits for.
  bool CanRun() const { return is_registered_; }
  // Until the file `stop` can be read. Only if `CanRun`.
  void Run();

  TcpStoreServer::Counts counts() const {
    return {connections_, waiting_, keys_, bytes_, dropped_};
  }

 private:
  struct Entry {
    Entry(FileDescriptor file, std::string address)
        : client(std::move(file), std::move(address)) {}
    TcpStoreClient client;
    uint32_t events = 0;      // that epoll is asked for
    size_t buffered = 0;      // of its bytes, as they are in `buffered_`
    bool is_touched = false;  // `Settle` is to look at it
    bool has_lost = false;    // something that it was to be sent
  };
  using Clients = std::map<uint64_t, Entry>;

  // False if the system has no memory for it.
  bool Register(int operation, int file, uint32_t events, uint64_t id);

  void Accept();
  void Admit(AcceptedSocket accepted);
  // Whether a connection that has never asked anything was closed.
  bool MakeRoom();
  void Pause(int error);
  void OnEvents(uint64_t id, uint32_t events);
  absl::Status Serve(uint64_t id, TcpStoreClient& client, uint32_t events);
  void Send(uint64_t id, std::string bytes);
  void Touch(uint64_t id, Entry& entry);
  // Brings the books and epoll up to date for those that were touched.
  void Settle();
  void BoundBuffers();
  // Closes the connections that are too slow.
  void Sweep();
  // `why` is empty if the client went by itself.
  void Close(uint64_t id, std::string_view why);
  void Log(std::string_view text);
  int MillisecondsToWait();

  Runtime& runtime_;
  const TcpStoreServerOptions options_;
  const TcpListener listener_;
  const FileDescriptor epoll_;
  bool is_registered_ = false;  // with epoll: the listener and the end
  TcpStoreTable table_;
  Clients clients_;
  uint64_t next_id_;
  uint64_t first_silent_ = 0;  // those before have asked something
  std::vector<uint64_t> touched_;
  size_t buffered_ = 0;
  absl::Time next_sweep_ = absl::InfinitePast();
  absl::Time accept_again_ = absl::InfinitePast();  // InfinitePast: it accepts
  absl::Time next_log_ = absl::InfinitePast();
  int64_t unlogged_ = 0;
  std::atomic<int64_t> connections_ = 0;
  std::atomic<int64_t> waiting_ = 0;
  std::atomic<int64_t> keys_ = 0;
  std::atomic<int64_t> bytes_ = 0;
  std::atomic<int64_t> dropped_ = 0;
};

}  // namespace reprise

#endif  // REPRISE_AGENT_STORE_TCP_STORE_LOOP_H_

#include "agent/transport/uv_guard.h"

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <utility>

#include "agent/transport/answer_reader.h"
#include "agent/transport/doorman.h"
#include "agent/transport/failed_connect.h"
#include "agent/transport/real_uv.h"
#include "glog/logging.h"

namespace reprise {
namespace {

// A stream that TensorPipe connects, until its first frame has come.
struct Client {
  AnswerReader reader;
  std::unique_ptr<FailedConnect> failed;
};

// What is guarded, by libuv's handles. The functions of libuv have no room for
// an argument of ours, so this is one for the process; and it lies below the
// runtime seam, on the threads of TensorPipe's loops, which no simulation has.
class Guarded {
 public:
  void AddDoorman(const void* server, std::shared_ptr<Doorman> doorman) {
    const std::lock_guard<std::mutex> lock(mutex_);
    doormen_[server] = std::move(doorman);
  }
  std::shared_ptr<Doorman> FindDoorman(const void* server) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto it = doormen_.find(server);
    return it == doormen_.end() ? nullptr : it->second;
  }
  std::shared_ptr<Doorman> TakeDoorman(const void* server) {
    const std::lock_guard<std::mutex> lock(mutex_);
    auto node = doormen_.extract(server);
    return node.empty() ? nullptr : std::move(node.mapped());
  }

  std::shared_ptr<Client> AddClient(const void* stream) {
    auto client = std::make_shared<Client>();
    const std::lock_guard<std::mutex> lock(mutex_);
    clients_[stream] = client;
    num_clients_ = clients_.size();
    return client;
  }
  // Cheap when there is none at all: every read and write of libuv's asks.
  std::shared_ptr<Client> FindClient(const void* stream) {
    if (num_clients_.load(std::memory_order_relaxed) == 0) return nullptr;
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto it = clients_.find(stream);
    return it == clients_.end() ? nullptr : it->second;
  }
  void RemoveClient(const void* stream) {
    if (num_clients_.load(std::memory_order_relaxed) == 0) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    clients_.erase(stream);
    num_clients_ = clients_.size();
  }

  void SetMakesLanes(pthread_t thread, bool makes_lanes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (makes_lanes) {
      lane_makers_.insert(thread);
    } else {
      lane_makers_.erase(thread);
    }
  }
  void AddLoop(const void* loop, pthread_t maker) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (lane_makers_.count(maker) != 0) lane_loops_.insert(loop);
  }
  void RemoveLoop(const void* loop) {
    const std::lock_guard<std::mutex> lock(mutex_);
    lane_loops_.erase(loop);
  }
  Callers CallersOf(const void* loop) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return lane_loops_.count(loop) != 0 ? Callers::kLanes : Callers::kPipes;
  }

 private:
  std::mutex mutex_;
  std::map<const void*, std::shared_ptr<Doorman>> doormen_;
  std::map<const void*, std::shared_ptr<Client>> clients_;
  std::atomic<size_t> num_clients_ = 0;
  std::set<pthread_t> lane_makers_;
  std::set<const void*> lane_loops_;
};

Guarded& TheGuarded() {
  static auto* const guarded = new Guarded();  // as long as any loop
  return *guarded;
}

// Whether the code at `function` is TensorPipe's.
template <typename Function>
bool IsTensorPipes(Function* function) {
  Dl_info info = {};
  return function != nullptr &&
         dladdr(reinterpret_cast<const void*>(function), &info) != 0 &&
         info.dli_fname != nullptr &&
         std::strstr(info.dli_fname, "libtensorpipe.so") != nullptr;
}

template <typename Function>
void Look(Function*& function, const char* name) {
  function = reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
  CHECK(function != nullptr) << "libuv has no " << name;
}

void OnConnection(uv_stream_t* server, int status) {
  if (const auto doorman = TheGuarded().FindDoorman(server)) {
    doorman->OnConnection(status);
  }
}

void AllocForAnswer(uv_handle_t* handle, size_t, uv_buf_t* buffer) {
  const auto client = TheGuarded().FindClient(handle);
  *buffer =
      client != nullptr ? client->reader.NextBuffer() : uv_buf_init(nullptr, 0);
}

void ReadAnswer(uv_stream_t* stream, ssize_t size, const uv_buf_t*) {
  const auto client = TheGuarded().FindClient(stream);
  if (client == nullptr || !client->reader.OnRead(size)) return;
  TheGuarded().RemoveClient(stream);
  client->reader.HandOn(stream);
}

void OnFailedClosed(uv_handle_t* handle) {
  const auto client = TheGuarded().FindClient(handle);
  TheGuarded().RemoveClient(handle);
  if (client != nullptr) client->failed->OnClosed(handle);
}

}  // namespace

const RealUvFunctions& RealUv() {
  static const RealUvFunctions functions = [] {
    RealUvFunctions real;
    Look(real.accept, "uv_accept");
    Look(real.close, "uv_close");
    Look(real.listen, "uv_listen");
    Look(real.loop_close, "uv_loop_close");
    Look(real.loop_init, "uv_loop_init");
    Look(real.read_start, "uv_read_start");
    Look(real.tcp_connect, "uv_tcp_connect");
    Look(real.write, "uv_write");
    return real;
  }();
  return functions;
}

absl::Status UvGuardInPlace() {
  Dl_info called = {};
  Dl_info ours = {};
  if (dladdr(dlsym(RTLD_DEFAULT, "uv_listen"), &called) != 0 &&
      dladdr(reinterpret_cast<const void*>(&UvGuardInPlace), &ours) != 0 &&
      called.dli_fbase == ours.dli_fbase) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      "strangers can end this process: libuv is called past the guard; link "
      "reprise into the program itself, with its symbols exported");
}

UvLanesScope::UvLanesScope() {
  TheGuarded().SetMakesLanes(pthread_self(), true);
}

UvLanesScope::~UvLanesScope() {
  TheGuarded().SetMakesLanes(pthread_self(), false);
}

}  // namespace reprise

extern "C" {

int uv_loop_init(uv_loop_t* loop) {
  reprise::TheGuarded().AddLoop(loop, pthread_self());
  return reprise::RealUv().loop_init(loop);
}

int uv_loop_close(uv_loop_t* loop) {
  const int result = reprise::RealUv().loop_close(loop);
  if (result == 0) reprise::TheGuarded().RemoveLoop(loop);
  return result;
}

int uv_listen(uv_stream_t* stream, int backlog, uv_connection_cb callback) {
  if (stream->type != UV_TCP || !reprise::IsTensorPipes(callback)) {
    return reprise::RealUv().listen(stream, backlog, callback);
  }
  reprise::TheGuarded().AddDoorman(
      stream,
      std::make_shared<reprise::Doorman>(
          stream, callback, reprise::TheGuarded().CallersOf(stream->loop)));
  const int result =
      reprise::RealUv().listen(stream, backlog, reprise::OnConnection);
  if (result != 0) reprise::TheGuarded().TakeDoorman(stream);
  return result;
}

int uv_accept(uv_stream_t* server, uv_stream_t* client) {
  const auto doorman = reprise::TheGuarded().FindDoorman(server);
  return doorman != nullptr ? doorman->Accept(client)
                            : reprise::RealUv().accept(server, client);
}

int uv_tcp_connect(uv_connect_t* request, uv_tcp_t* handle,
                   const sockaddr* address, uv_connect_cb callback) {
  const int result =
      reprise::RealUv().tcp_connect(request, handle, address, callback);
  if (!reprise::IsTensorPipes(callback)) return result;
  const auto client = reprise::TheGuarded().AddClient(handle);
  if (result != 0) {
    client->failed = std::make_unique<reprise::FailedConnect>(request, handle,
                                                              callback, result);
  }
  return 0;
}

int uv_write(uv_write_t* request, uv_stream_t* stream, const uv_buf_t buffers[],
             unsigned int count, uv_write_cb callback) {
  if (const auto client = reprise::TheGuarded().FindClient(stream)) {
    if (client->failed != nullptr) {
      client->failed->Write(request, stream, callback);
      return 0;
    }
    if (!client->reader.has_written() &&
        !client->reader.OnFirstWrite(buffers, count)) {
      reprise::TheGuarded().RemoveClient(stream);
    }
  }
  return reprise::RealUv().write(request, stream, buffers, count, callback);
}

int uv_read_start(uv_stream_t* stream, uv_alloc_cb alloc, uv_read_cb read) {
  const auto client = reprise::TheGuarded().FindClient(stream);
  if (client == nullptr) {
    return reprise::RealUv().read_start(stream, alloc, read);
  }
  if (client->failed != nullptr) return 0;
  if (!client->reader.has_written()) {  // it has asked for nothing
    reprise::TheGuarded().RemoveClient(stream);
    return reprise::RealUv().read_start(stream, alloc, read);
  }
  client->reader.Expect(alloc, read);
  return reprise::RealUv().read_start(stream, reprise::AllocForAnswer,
                                      reprise::ReadAnswer);
}

void uv_close(uv_handle_t* handle, uv_close_cb callback) {
  if (const auto doorman = reprise::TheGuarded().TakeDoorman(handle)) {
    doorman->Close();
  }
  if (const auto client = reprise::TheGuarded().FindClient(handle)) {
    if (client->failed != nullptr) {
      client->failed->Close(handle, callback, reprise::OnFailedClosed);
      return;
    }
    reprise::TheGuarded().RemoveClient(handle);
  }
  reprise::RealUv().close(handle, callback);
}

}  // extern "C"

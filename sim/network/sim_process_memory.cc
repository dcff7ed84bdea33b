#include "sim/network/sim_process_memory.h"

#include <sys/syscall.h>
#include <sys/uio.h>

#include <cerrno>
#include <utility>

#include "sim/interpose/real.h"
#include "sim/world/latency.h"

namespace reprise {
namespace {

using tensorpipe::Error;

constexpr LatencyRange kCopyLatency = {.min_ns = 1'000,
                                       .spread_ns = 19'000,
                                       .spike_one_in = 20,
                                       .spike_max_ns = 5'000'000};
constexpr int64_t kBytesPerNanosecond = 8;

Error ErrorOf(int number) {
  return {std::make_shared<tensorpipe::SystemError>("process_vm_readv", number),
          __FILE__, __LINE__};
}

}  // namespace

class SimProcessMemories::Process final : public ProcessMemory {
 public:
  Process(SimProcessMemories& all, Node& node, int host, pid_t pid)
      : all_(all), node_(node), host_(host), pid_(pid) {}

  pid_t OwnPid() override { return pid_; }

  Error Read(pid_t pid, uint64_t from, void* into, size_t size) override {
    const InSimulator in;
    TakeTime(size);
    const auto it = all_.processes_.find(pid);
    const bool is_there = it != all_.processes_.end() &&
                          it->second->host_ == host_ && it->second->node_.alive;
    const Error error = is_there ? Copy(from, into, size) : ErrorOf(ESRCH);
    all_.world_.Record(&node_,
                       {.kind = EventKind::kCopied,
                        .rank = is_there ? it->second->node_.rank : int64_t{-1},
                        .num_bytes = error ? 0 : static_cast<int64_t>(size)});
    return error;
  }

 private:
  void TakeTime(size_t size) {
    World& world = all_.world_;
    Site& site = world.scheduler().current()->sites.At(all_.copy_);
    site.Visit();
    const int64_t ns = DrawLatencyNs(world.decisions(), site, kCopyLatency) +
                       static_cast<int64_t>(size) / kBytesPerNanosecond;
    world.scheduler().Block(site, {"copies", "another process's memory"},
                            world.now_ns() + ns);
  }

  // By the kernel, which knows what is mapped.
  static Error Copy(uint64_t from, void* into, size_t size) {
    iovec local = {into, size};
    iovec remote = {reinterpret_cast<void*>(from), size};
    const long count =  // NOLINT(google-runtime-int)
        interpose::SystemCall(SYS_process_vm_readv,
                              interpose::SystemCall(SYS_getpid),
                              reinterpret_cast<intptr_t>(&local), 1,
                              reinterpret_cast<intptr_t>(&remote), 1, 0);
    if (count < 0) return ErrorOf(errno);
    if (static_cast<size_t>(count) == size) return Error::kSuccess;
    return {std::make_shared<tensorpipe::ShortReadError>(
                static_cast<ssize_t>(size), count),
            __FILE__, __LINE__};
  }

  SimProcessMemories& all_;
  Node& node_;
  const int host_;
  const pid_t pid_;
};

SimProcessMemories::SimProcessMemories(World& world)
    : world_(world), copy_(world.decisions().PlaceAt("copy")) {}

SimProcessMemories::~SimProcessMemories() = default;

ProcessMemory& SimProcessMemories::Connect(Node& node, int host, pid_t pid) {
  auto& process = processes_[pid];
  process = std::make_unique<Process>(*this, node, host, pid);
  return *process;
}

}  // namespace reprise

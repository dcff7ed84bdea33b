// Two processes send each other tensors, and stand still, die, time out, cancel
// or shut down meanwhile. Each tensor that a handler or a future gets with
// status OK must have the bytes that were sent.
//
// Each round runs two workers, which call each other from several threads. They
// say in each message what its tensors are made of, and check what they get.
// The memory of a tensor that was released is overwritten and used again. The
// parent stops and continues the workers, and ends a round by killing one or by
// telling them to shut down in the middle of it.
//
//   tensor_bytes_test [--tensors=100000] [--only=uv+cma] [--seed=7]

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <mutex>
#include <new>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "agent/agent.h"
#include "agent/runtime/runtime.h"
#include "agent/store/open_store.h"
#include "agent/transport/transports.h"

namespace reprise {
namespace {

// The number of tensors for each pair of a transport and a channel, by default.
constexpr int64_t kTensors = 1500;
constexpr int kCallers = 4;  // threads a worker
constexpr size_t kMostTensors = 4;
constexpr size_t kMostBytes = size_t{2} << 20;

Runtime& Clock() { return RealRuntime(); }
void Sleep(absl::Duration duration) {
  Clock().SleepUntil(Clock().Now() + duration);
}

// In memory that the parent shares with both workers of a round.
struct Shared {
  std::atomic<int> ready = 0;
  std::atomic<bool> stop = false;
  std::atomic<int64_t> tensors = 0;  // checked
  std::atomic<int64_t> wrong = 0;
  std::atomic<int64_t> good_calls = 0;
  std::atomic<int64_t> failed_calls = 0;
};

// The bytes of a tensor follow from its seed.
uint64_t Word(uint64_t seed, size_t index) {
  uint64_t word = (seed + index) * 0x9e37'79b9'7f4a'7c15;
  return word ^ word >> 29;
}
void Fill(uint64_t seed, char* bytes, size_t length) {
  for (size_t at = 0; at < length; at += sizeof(uint64_t)) {
    const uint64_t word = Word(seed, at);
    std::memcpy(bytes + at, &word, std::min(sizeof(word), length - at));
  }
}
bool Holds(uint64_t seed, const char* bytes, size_t length) {
  for (size_t at = 0; at < length; at += sizeof(uint64_t)) {
    const uint64_t word = Word(seed, at);
    if (std::memcmp(bytes + at, &word, std::min(sizeof(word), length - at)) !=
        0) {
      return false;
    }
  }
  return true;
}

// Memory that is never given back to the system: what is released is
// overwritten and used again for the next tensor.
class Pool {
 public:
  char* Take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return new char[kMostBytes];
    char* const block = free_.back();
    free_.pop_back();
    return block;
  }
  void GiveBack(char* block, size_t used) {
    std::memset(block, 0xee, used);
    const std::lock_guard lock(mutex_);
    free_.push_back(block);
  }

 private:
  std::mutex mutex_;
  std::vector<char*> free_;
};

class PooledStorage final : public Storage {
 public:
  PooledStorage(Pool& pool, size_t length)
      : pool_(pool), block_(pool.Take()), length_(length) {}
  ~PooledStorage() override { pool_.GiveBack(block_, length_); }

  const Device& device() const override {
    static const Device cpu;
    return cpu;
  }
  void* data() override { return block_; }
  size_t num_bytes() const override { return length_; }

 private:
  Pool& pool_;
  char* const block_;
  const size_t length_;
};

// A message of a few tensors, which its payload describes.
Message MakeMessage(MessageType type, Pool& pool, std::mt19937_64& random) {
  Message message;
  message.type = type;
  const size_t count = 1 + random() % kMostTensors;
  for (size_t i = 0; i < count; ++i) {
    // Mostly some 100 KiB, now and then a few bytes or the largest size.
    const size_t limit = size_t{1} << (3 + random() % 19);
    const size_t length = 1 + random() % std::min(limit, kMostBytes);
    const uint64_t seed = random();
    Tensor tensor;
    tensor.dtype = DType::kUInt8;
    tensor.sizes = {static_cast<int64_t>(length)};
    tensor.strides = {1};
    tensor.storage = std::make_shared<PooledStorage>(pool, length);
    Fill(seed, static_cast<char*>(tensor.storage->data()), length);
    message.tensors.push_back(std::move(tensor));
    absl::StrAppend(&message.payload, seed, ":", length, ";");
  }
  return message;
}

void Check(const Message& message, Shared& shared, const char* where) {
  const std::vector<std::string> headers =
      absl::StrSplit(message.payload, ';', absl::SkipEmpty());
  bool is_right = headers.size() == message.tensors.size();
  for (size_t i = 0; is_right && i < headers.size(); ++i) {
    const std::pair<std::string, std::string> header =
        absl::StrSplit(headers[i], ':');
    uint64_t seed = 0;
    size_t length = 0;
    const Tensor& tensor = message.tensors[i];
    is_right =
        absl::SimpleAtoi(header.first, &seed) &&
        absl::SimpleAtoi(header.second, &length) &&
        tensor.storage->num_bytes() == length &&
        Holds(seed, static_cast<const char*>(tensor.storage->data()), length);
    ++shared.tensors;
  }
  if (is_right) return;
  ++shared.wrong;
  fprintf(stderr, "WRONG bytes in %s: %s\n", where, message.payload.c_str());
}

AgentOptions OptionsOf(int id, const std::string& transport,
                       const std::string& channel) {
  AgentOptions options;
  options.name = absl::StrCat("w", id);
  options.id = id;
  options.world_size = 2;
  options.num_worker_threads = 4;
  options.transport = {{transport}, {channel}, "127.0.0.1"};
  options.keepalive_interval = absl::Milliseconds(40);
  options.keepalive_bound = absl::Milliseconds(160);
  options.rpc_timeout = absl::ZeroDuration();
  return options;
}

void CallOn(Agent& agent, int peer, Pool& pool, Shared& shared, uint64_t seed) {
  std::mt19937_64 random(seed);
  while (!shared.stop) {
    CallOptions options;
    if (random() % 4 == 0) {
      options.timeout = absl::Milliseconds(1 + random() % 100);
    }
    const Future future = agent.Send(
        static_cast<WorkerId>(peer),
        MakeMessage(MessageType::kScriptCall, pool, random), options);
    if (random() % 8 == 0) {
      future.Wait(Clock().Now() + absl::Microseconds(random() % 2000));
      future.Cancel();
    }
    if (!future.status().ok()) {
      ++shared.failed_calls;
      Sleep(absl::Milliseconds(random() % 5));
      continue;
    }
    ++shared.good_calls;
    Check(*future.result(), shared, "a future");
  }
}

// The main program of a worker; `arguments`: its id, the store's directory, the
// file of `Shared`, the transport, the channel and a seed.
int WorkerMain(char** arguments) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int id = atoi(arguments[0]);
  FILE* const file = fopen(arguments[2], "r+");
  if (file == nullptr) return 2;
  void* const memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE,
                            MAP_SHARED, fileno(file), 0);
  if (memory == MAP_FAILED) return 2;
  fclose(file);
  Shared& shared = *static_cast<Shared*>(memory);
  uint64_t seed = 0;
  if (!absl::SimpleAtoi(arguments[5], &seed)) return 2;
  static Pool* const pool = new Pool();
  auto store = OpenStore(Clock(), absl::StrCat("file://", arguments[1]));
  if (!store.ok()) return 2;
  std::atomic<uint64_t> num_replies = 0;
  auto agent =
      Agent::Start({&Clock(), *store, &RealTransports()},
                   OptionsOf(id, arguments[3], arguments[4]),
                   Blocking([&](Message request,
                                const RequestInfo&) -> absl::StatusOr<Message> {
                     Check(request, shared, "a handler");
                     std::mt19937_64 random(seed ^ ++num_replies << 32);
                     return MakeMessage(MessageType::kScriptRet, *pool, random);
                   }),
                   Clock().Now() + absl::Seconds(30));
  if (!agent.ok()) {
    // The other worker was killed first.
    fprintf(stderr, "w%d: %s\n", id, agent.status().ToString().c_str());
    return shared.stop ? 0 : 3;
  }
  ++shared.ready;
  std::vector<std::unique_ptr<Thread>> callers;
  for (int i = 0; i < kCallers; ++i) {
    callers.push_back(Clock().StartThread("caller", [&, i] {
      CallOn(**agent, 1 - id, *pool, shared, seed + i);
    }));
  }
  while (!shared.stop) Sleep(absl::Milliseconds(1));
  (*agent)->Shutdown(absl::InfinitePast()).IgnoreError();
  for (auto& caller : callers) caller->Join();
  agent->reset();
  return 0;
}

// A round's two workers.
class Round {
 public:
  Round(const std::string& transport, const std::string& channel,
        uint64_t seed) {
    const char* const parent = getenv("TEST_TMPDIR");
    directory_ =
        absl::StrCat(parent != nullptr ? parent : "/tmp", "/bytes-XXXXXX");
    if (mkdtemp(directory_.data()) == nullptr) abort();
    const std::string counts = directory_ + "/counts";
    FILE* const file = fopen(counts.c_str(), "w+");
    if (file == nullptr || ftruncate(fileno(file), sizeof(Shared)) != 0) {
      abort();
    }
    void* const memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE,
                              MAP_SHARED, fileno(file), 0);
    fclose(file);
    if (memory == MAP_FAILED) abort();
    shared_ = new (memory) Shared();
    for (int id = 0; id < 2; ++id) {
      workers_[id] = fork();
      if (workers_[id] != 0) continue;
      const std::string text = absl::StrCat(id);
      const std::string seed_text = absl::StrCat(seed + id * 1000);
      const std::string store = directory_ + "/store";
      execl("/proc/self/exe", "tensor_bytes_test", "--worker", text.c_str(),
            store.c_str(), counts.c_str(), transport.c_str(), channel.c_str(),
            seed_text.c_str(), nullptr);
      _exit(127);
    }
  }
  ~Round() {
    munmap(shared_, sizeof(Shared));
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }

  Shared& shared() { return *shared_; }

  // False when a worker did not start.
  bool AwaitStart() {
    const absl::Time deadline = Clock().Now() + absl::Seconds(60);
    while (shared_->ready < 2 && Clock().Now() < deadline) {
      Sleep(absl::Milliseconds(1));
    }
    return shared_->ready == 2;
  }
  void Stand(int id, absl::Duration duration) {
    kill(workers_[id], SIGSTOP);
    Sleep(duration);
    kill(workers_[id], SIGCONT);
  }
  void Kill(int id) { kill(workers_[id], SIGKILL); }

  // Returns false if a worker other than `killed` hangs or failed.
  bool End(int killed) {
    shared_->stop = true;
    bool all_well = true;
    const absl::Time deadline = Clock().Now() + absl::Seconds(60);
    for (int id = 0; id < 2; ++id) {
      int status = 0;
      while (waitpid(workers_[id], &status, WNOHANG) == 0) {
        Sleep(absl::Milliseconds(1));
        if (Clock().Now() < deadline) continue;
        fprintf(stderr, "worker %d hangs\n", id);
        all_well = false;
        kill(workers_[id], SIGKILL);
        waitpid(workers_[id], &status, 0);
        break;
      }
      if (id != killed && status != 0) {
        fprintf(stderr, "worker %d ended with status %x\n", id, status);
        all_well = false;
      }
    }
    return all_well;
  }

 private:
  std::string directory_;
  Shared* shared_ = nullptr;
  pid_t workers_[2] = {};
};

struct Counts {
  int64_t tensors = 0;
  int64_t wrong = 0;
  int64_t good_calls = 0;
  int64_t failed_calls = 0;
  int rounds = 0;
  bool all_well = true;
};

void Disturb(Round& round, std::mt19937_64& random, int64_t tensors) {
  const absl::Time end =
      Clock().Now() + absl::Milliseconds(200 + random() % 1500);
  while (Clock().Now() < end && round.shared().tensors < tensors) {
    Sleep(absl::Milliseconds(random() % 60));
    // Shorter than the keepalive's bound, or longer.
    round.Stand(static_cast<int>(random() % 2),
                absl::Milliseconds(random() % (random() % 3 == 0 ? 400 : 40)));
  }
}

void RunRound(const std::string& transport, const std::string& channel,
              std::mt19937_64& random, int64_t tensors, Counts& counts) {
  Round round(transport, channel, random());
  ++counts.rounds;
  int killed = -1;
  if (round.AwaitStart()) {
    Disturb(round, random, tensors);
    if (random() % 3 == 0) round.Kill(killed = static_cast<int>(random() % 2));
  } else {
    counts.all_well = false;
  }
  counts.all_well &= round.End(killed);
  const Shared& shared = round.shared();
  counts.tensors += shared.tensors;
  counts.wrong += shared.wrong;
  counts.good_calls += shared.good_calls;
  counts.failed_calls += shared.failed_calls;
}

bool Works(const std::string& name) {
  for (const TransportProbe& probe : ProbeRealTransports("127.0.0.1")) {
    if (probe.name == name && !probe.viable) {
      printf("%s does not work here: %s\n", name.c_str(), probe.detail.c_str());
      return false;
    }
  }
  return true;
}

int ParentMain(int argc, char** argv) {
  int64_t tensors = kTensors;
  std::string only;
  uint64_t seed = 1;
  for (int i = 1; i < argc; ++i) {
    std::string_view argument = argv[i];
    if (argument.starts_with("--tensors=")) {
      tensors = atoll(argv[i] + strlen("--tensors="));
    } else if (argument.starts_with("--only=")) {
      only = argv[i] + strlen("--only=");
    } else if (argument.starts_with("--seed=")) {
      seed = strtoull(argv[i] + strlen("--seed="), nullptr, 10);
    } else {
      fprintf(stderr, "unknown argument: %s\n", argv[i]);
      return 2;
    }
  }
  constexpr std::pair<const char*, const char*> kPairs[] = {
      {"shm", "cma"},   {"shm", "basic"}, {"uv", "cma"},
      {"uv", "mpt_uv"}, {"uv", "basic"},
  };
  bool good = true;
  for (const auto& [transport, channel] : kPairs) {
    const std::string pair = absl::StrCat(transport, "+", channel);
    if ((!only.empty() && only != pair) || !Works(transport) ||
        !Works(channel)) {
      continue;
    }
    std::mt19937_64 random(seed);
    Counts counts;
    while (counts.tensors < tensors && counts.wrong == 0 && counts.all_well) {
      RunRound(transport, channel, random, tensors, counts);
    }
    printf(
        "%s: %lld tensors in %d rounds, %lld wrong; of the calls %lld went "
        "well and %lld failed%s\n",
        pair.c_str(), static_cast<long long>(counts.tensors), counts.rounds,
        static_cast<long long>(counts.wrong),
        static_cast<long long>(counts.good_calls),
        static_cast<long long>(counts.failed_calls),
        counts.all_well ? "" : "; A WORKER FAILED");
    fflush(stdout);
    good &= counts.wrong == 0 && counts.all_well;
  }
  return good ? 0 : 1;
}

}  // namespace
}  // namespace reprise

int main(int argc, char** argv) {
  constexpr int kWorkerArguments = 8;
  if (argc == kWorkerArguments && std::string_view(argv[1]) == "--worker") {
    return reprise::WorkerMain(argv + 2);
  }
  return reprise::ParentMain(argc, argv);
}

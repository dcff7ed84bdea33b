// A peer is killed in the middle of copies, in both directions.
//
// In each round two agents in two processes send each other tensors on the GPU,
// many at a time. Then one of them is killed. All calls of the other must end;
// every tensor that was reported as good must be what was sent; its GPU must
// work, its memory come back, and a new peer be served.
//
//   kill_test [--only=cuda_ipc] [--rounds=3] [--fake]

#include <atomic>
#include <cstdio>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "agent/runtime/runtime.h"
#include "tests/gpu/agent_end.h"
#include "tests/gpu/child.h"
#include "tests/gpu/flags.h"
#include "tests/gpu/pipe_end.h"
#include "tests/gpu/results.h"

namespace reprise::gpu {
namespace {

constexpr size_t kInFlight = 6;
constexpr int kTensors = 3;
// No peer can hold up a sender for longer than cuda_direct's ten seconds.
constexpr absl::Duration kEndWithin = absl::Seconds(20);
constexpr absl::Duration kMemoryBackWithin = absl::Seconds(20);

Runtime& Clock() { return RealRuntime(); }

// Tensors that are sent again and again.
struct Stock {
  std::vector<std::shared_ptr<Storage>> storages;

  static absl::StatusOr<Stock> Make(Gpu& gpu) {
    const size_t num_bytes =
        std::min(gpu.LargestTensor(), (size_t{64} << 20) + 11);
    Stock stock;
    for (int i = 0; i < kTensors; ++i) {
      auto storage = gpu.Make(num_bytes, i);
      if (!storage.ok()) return storage.status();
      stock.storages.push_back(*std::move(storage));
    }
    return stock;
  }
};

struct Counts {
  std::atomic<int64_t> good = 0;
  std::atomic<int64_t> failed = 0;
  std::atomic<bool> stop = false;
};

// Keeps calls in flight until told to stop, or until one fails. Returns what
// must not be.
absl::Status CallOn(Gpu& gpu, Agent& agent, const char* peer,
                    const Stock& stock, const char* text, Counts& counts) {
  struct Sent {
    Future reply;
    uint64_t seed;
  };
  const bool is_echo = std::string_view(text) == "echo";
  std::deque<Sent> sent;
  uint64_t next = 0;
  absl::Status verdict;
  while (true) {
    while (!counts.stop && sent.size() < kInFlight) {
      const uint64_t seed = next++ % kTensors;
      Message request{MessageType::kScriptCall,
                      absl::StrCat(text, " ", seed),
                      {BytesOf(stock.storages[seed])}};
      if (is_echo) request.payload = text;
      request.streams = Only(gpu.NewStream());
      sent.push_back({agent.Send(peer, std::move(request)), seed});
    }
    if (sent.empty()) return verdict;
    const auto [reply, seed] = sent.front();
    sent.pop_front();
    if (counts.stop && !reply.Wait(Clock().Now() + kEndWithin)) {
      return absl::DeadlineExceededError("a call to the dead does not end");
    }
    absl::Status status = reply.status();
    if (!status.ok()) {
      ++counts.failed;
      if (absl::IsDataLoss(status)) verdict.Update(status);
      continue;
    }
    const Message& message = *reply.result();
    if (is_echo && (message.tensors.size() != 1 ||
                    message.tensors[0].storage->num_bytes() !=
                        stock.storages[seed]->num_bytes())) {
      verdict.Update(absl::DataLossError("a reply is not what was sent"));
    }
    for (const Tensor& tensor : message.tensors) {
      status = gpu.Compare(*tensor.storage, seed,
                           message.streams.On(FirstGpu().index));
      // What was reported as good is good.
      if (!status.ok()) verdict.Update(status);
    }
    ++counts.good;
  }
}

int ServeMain(Gpu& gpu, const GroupSpec& spec) {
  DieWithParent();
  const absl::StatusOr<Stock> stock = Stock::Make(gpu);
  auto agent = StartAgent(gpu, spec, kServer, nullptr, MakeHandler(gpu));
  if (!stock.ok() || !agent.ok()) {
    std::fprintf(stderr, "the peer: %s %s\n", stock.status().ToString().c_str(),
                 agent.status().ToString().c_str());
    return kFailed;
  }
  std::printf("ready\n");
  std::fflush(stdout);
  Counts counts;
  const auto caller = Clock().StartThread("caller", [&] {
    CallOn(gpu, **agent, kClient, *stock, "check", counts).IgnoreError();
  });
  WaitForEndOfInput();
  counts.stop = true;
  caller->Join();
  return kPassed;
}

// Tensors of the peer are compared in the handler; a wrong one is an error that
// nobody is left to hear of.
RequestHandler Noting(Gpu& gpu, Counts& counts) {
  return Blocking(
      [&gpu, &counts](Message request,
                      const RequestInfo&) -> absl::StatusOr<Message> {
        const absl::StatusOr<uint64_t> seed = SeedIn(request.payload);
        if (!seed.ok()) return seed.status();
        if (request.tensors.size() != 1) {
          ++counts.failed;
          return absl::DataLossError("a request has not one tensor");
        }
        for (const Tensor& tensor : request.tensors) {
          absl::Status status = gpu.Compare(
              *tensor.storage, *seed, request.streams.On(FirstGpu().index));
          if (status.ok()) continue;
          ++counts.failed;
          return status;
        }
        ++counts.good;
        return Message{MessageType::kScriptRet, "ok", {}};
      });
}

absl::Status AwaitMemory(Gpu& gpu, int64_t used_before) {
  const absl::Time deadline = Clock().Now() + kMemoryBackWithin;
  while (true) {
    gpu.devices().gpu_memory()->Poll();
    const int64_t used = gpu.devices().gpu_memory()->stats(0).used_bytes;
    if (used <= used_before) return absl::OkStatus();
    if (Clock().Now() > deadline) {
      return absl::ResourceExhaustedError(
          absl::StrCat(used - used_before, " bytes did not come back"));
    }
    Clock().SleepUntil(Clock().Now() + absl::Milliseconds(10));
  }
}

absl::Status RunRound(Gpu& gpu, GroupSpec spec, absl::Duration kill_after,
                      std::string& report) {
  const StoreDirectory directory;
  spec.store = directory.url();
  const absl::StatusOr<Stock> stock = Stock::Make(gpu);
  if (!stock.ok()) return stock.status();
  // The memory for this is kept once it was made.
  absl::Status status = gpu.KeepBusy(gpu.NewStream(), absl::ZeroDuration());
  if (!status.ok()) return status;
  const int64_t used_before = gpu.devices().gpu_memory()->stats(0).used_bytes;
  std::vector<std::string> arguments = {
      "--serve", absl::StrCat("--only=", spec.channel),
      absl::StrCat("--transport=", spec.transport),
      absl::StrCat("--store=", spec.store)};
  if (gpu.is_fake()) arguments.push_back("--fake");
  auto child = Child::Start(std::move(arguments));
  if (!child.ok()) return child.status();
  Counts handled;
  Counts called;
  auto agent = StartAgent(gpu, spec, kClient, nullptr, Noting(gpu, handled));
  if (!agent.ok()) return agent.status();
  const auto ready = (*child)->ReadLine(absl::Minutes(1));
  if (!ready.ok()) return ready.status();
  absl::Status calls;
  const auto caller = Clock().StartThread("caller", [&] {
    calls = CallOn(gpu, **agent, kServer, *stock, "echo", called);
  });
  // Both directions work, and then it happens.
  const absl::Time deadline = Clock().Now() + absl::Seconds(30);
  while ((called.good < 5 || handled.good < 5) && Clock().Now() < deadline) {
    Clock().SleepUntil(Clock().Now() + absl::Milliseconds(1));
  }
  Clock().SleepUntil(Clock().Now() + kill_after);
  const int64_t good_before = called.good;
  (*child)->Kill();
  called.stop = true;
  caller->Join();
  report = absl::StrCat(called.good.load(), " calls were good and ",
                        called.failed.load(), " failed, ", handled.good.load(),
                        " were served");
  if (!calls.ok()) return calls;
  if (good_before < 5 || handled.good < 5) {
    return absl::InternalError(absl::StrCat("too little worked: ", report));
  }
  if (handled.failed > 0) return absl::DataLossError("wrong bytes came");
  status = (*agent)->Shutdown(Clock().Now() + kEndWithin);
  if (!status.ok()) return status;
  agent->reset();
  status = AwaitMemory(gpu, used_before);
  if (!status.ok()) return status;
  auto fresh = gpu.Make(size_t{1} << 20, 77);  // the GPU works
  if (!fresh.ok()) return fresh.status();
  return gpu.Compare(**fresh, 77, gpu.NewStream());
}

int Main(int argc, char** argv) {
  const Flags flags(
      argc, argv,
      {"--only", "--rounds", "--fake", "--serve", "--transport", "--store"});
  if (!flags.is_valid()) return kWrongUsage;
  auto gpu = Gpu::Find(flags.Has("--fake"));
  if (!gpu.ok()) return SkipAll(std::string(gpu.status().message()));
  const std::string only = flags.Get("--only");
  if (flags.Has("--serve")) {
    return ServeMain(**gpu,
                     {only, flags.Get("--transport"), flags.Get("--store")});
  }
  int rounds = 3;
  if (flags.Has("--rounds") &&
      !absl::SimpleAtoi(flags.Get("--rounds"), &rounds)) {
    return kWrongUsage;
  }
  Results results;
  std::mt19937 random(1);
  for (const char* const channel :
       {"cuda_direct", "cuda_ipc", "cuda_host", "cuda_basic"}) {
    if (!only.empty() && only != channel) continue;
    for (int round = 0; round < rounds; ++round) {
      const GroupSpec spec = {channel, round % 2 == 0 ? "shm" : "uv"};
      const auto works =
          PipeContext::Make({channel, spec.transport}, (*gpu)->devices());
      const std::string name = absl::StrCat("kill -9, ", channel, " over ",
                                            spec.transport, ", round ", round);
      if (!works.ok()) {
        results.Skip(name, std::string(works.status().message()));
        continue;
      }
      std::string report;
      const absl::Status status =
          RunRound(**gpu, spec, absl::Microseconds(random() % 30000), report);
      results.Check(name, status);
      if (!report.empty()) std::printf("      %s\n", report.c_str());
    }
  }
  return results.Finish();
}

}  // namespace
}  // namespace reprise::gpu

int main(int argc, char** argv) { return reprise::gpu::Main(argc, argv); }

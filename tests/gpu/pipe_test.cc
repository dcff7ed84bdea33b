// The channels for GPUs under bare pipes of TensorPipe, between two processes
// and within one: all sizes, many tensors at once, and the order of streams.
//
//   pipe_test [--only=cuda_ipc] [--fake]

#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "agent/runtime/runtime.h"
#include "tests/gpu/child.h"
#include "tests/gpu/flags.h"
#include "tests/gpu/gpu.h"
#include "tests/gpu/pipe_end.h"
#include "tests/gpu/results.h"

namespace reprise::gpu {
namespace {

constexpr absl::Duration kBusyFor = absl::Milliseconds(100);

struct Case {
  Way way;
  bool is_one_process = false;

  std::string ToString() const {
    return absl::StrCat(way.ToString(),
                        is_one_process ? ", one process" : ", two processes");
  }
};

std::vector<Case> AllCases() {
  std::vector<Case> cases;
  for (const char* const transport : {"shm", "uv"}) {
    cases.push_back({{"cuda_xth", transport}, true});
    cases.push_back({{"cuda_direct", transport}});
    cases.push_back({{"cuda_ipc", transport}});
    cases.push_back({{"cuda_host", transport}});
    cases.push_back({{"cuda_basic", transport}});
  }
  cases.push_back({{"cuda_host", "uv", /*is_remote=*/true}});
  cases.push_back({{"cuda_host", "shm"}, true});
  cases.push_back({{"cuda_basic", "shm"}, true});
  return cases;
}

// --- The serving end ---

// "check SEED": compares the tensors with the bytes of SEED, SEED + 1, ...
absl::Status CheckTensors(Gpu& gpu, const PipeMessage& message) {
  const std::vector<std::string> words = absl::StrSplit(message.text, ' ');
  uint64_t seed = 0;
  if (words.size() != 2 || !absl::SimpleAtoi(words[1], &seed)) {
    return absl::DataLossError(absl::StrCat("the text ", message.text));
  }
  for (const Piece& piece : message.tensors) {
    absl::Status status = gpu.Compare(*piece.storage, seed++,
                                      message.streams.On(FirstGpu().index));
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// Answers until the peer goes away. "echo" sends back what came, without a wait
// for the GPU in between.
void Serve(Gpu& gpu, std::shared_ptr<tensorpipe::Pipe> pipe) {
  PipeEnd end(gpu.devices(), std::move(pipe));
  while (true) {
    absl::StatusOr<PipeMessage> message = end.Read();
    if (!message.ok() || message->text == "bye") return;
    if (message->text != "echo") {
      const absl::Status status = CheckTensors(gpu, *message);
      *message = {status.ok() ? "ok" : status.ToString(), {}, {}};
    }
    if (!end.Write(*std::move(message))->Wait().ok()) return;
  }
}

int ServeMain(Gpu& gpu, const Way& way) {
  DieWithParent();
  auto context = PipeContext::Make(way, gpu.devices());
  if (!context.ok()) {
    std::printf("error %s\n", context.status().ToString().c_str());
    std::fflush(stdout);
    return kFailed;
  }
  std::printf("url %s\n", (*context)->Listen().c_str());
  std::fflush(stdout);
  auto pipe = (*context)->Accept();
  if (!pipe.ok()) return kFailed;
  Serve(gpu, *std::move(pipe));
  WaitForEndOfInput();
  return kPassed;
}

// --- The asking end ---

class Asker {
 public:
  Asker(Gpu& gpu, std::shared_ptr<tensorpipe::Pipe> pipe)
      : gpu_(gpu), end_(gpu.devices(), std::move(pipe)) {}

  // Tensors of these sizes there and back, in one message.
  absl::Status Echo(const std::vector<size_t>& sizes) {
    PipeMessage message{"echo", {}, Only(gpu_.NewStream())};
    const uint64_t seed = NextSeeds(sizes.size());
    for (size_t i = 0; i < sizes.size(); ++i) {
      auto storage = gpu_.Make(sizes[i], seed + i);
      if (!storage.ok()) return storage.status();
      message.tensors.push_back(Piece::Whole(*std::move(storage)));
    }
    const auto written = end_.Write(std::move(message));
    absl::StatusOr<PipeMessage> reply = end_.Read();
    if (!reply.ok()) return reply.status();
    absl::Status status = written->Wait();
    if (status.ok() && reply->tensors.size() != sizes.size()) {
      return absl::DataLossError("not as many tensors came back");
    }
    for (size_t i = 0; status.ok() && i < sizes.size(); ++i) {
      Storage& storage = *reply->tensors[i].storage;
      if (storage.num_bytes() != sizes[i]) {
        return absl::DataLossError("a tensor came back with another size");
      }
      status =
          gpu_.Compare(storage, seed + i, reply->streams.On(FirstGpu().index));
    }
    return status;
  }

  absl::Status Sizes(size_t largest) {
    for (const size_t size :
         {size_t{0}, size_t{1}, size_t{64}, size_t{4095}, size_t{64} << 10,
          (size_t{1} << 20) + 1, (size_t{8} << 20) + 3, size_t{64} << 20,
          size_t{256} << 20, size_t{1} << 30}) {
      if (size > largest) break;
      absl::Status status = Echo({size});
      if (!status.ok()) {
        return absl::Status(
            status.code(),
            absl::StrCat(size, " bytes: ", std::string(status.message())));
      }
    }
    return absl::OkStatus();
  }

  // Parts of one allocation, at odd addresses.
  absl::Status Parts() {
    auto storage = gpu_.Make(size_t{3} << 20, NextSeeds(1));
    if (!storage.ok()) return storage.status();
    const uint64_t seed = seed_ - 1;
    PipeMessage message{"echo", {}, Only(gpu_.NewStream())};
    constexpr size_t kParts[][2] = {
        {0, 8}, {8, 65537}, {1 << 20, (size_t{2} << 20) - 1}, {4096, 0}};
    for (const auto& [offset, num_bytes] : kParts) {
      message.tensors.push_back({*storage, offset, num_bytes});
    }
    const auto written = end_.Write(std::move(message));
    absl::StatusOr<PipeMessage> reply = end_.Read();
    if (!reply.ok()) return reply.status();
    absl::Status status = written->Wait();
    // Copied to their places, they are the same bytes again.
    const GpuStream stream = reply->streams.On(FirstGpu().index);
    auto whole = gpu_.Make(size_t{3} << 20, seed);
    if (!whole.ok()) return whole.status();
    for (size_t i = 0; status.ok() && i < reply->tensors.size(); ++i) {
      if (kParts[i][1] == 0) continue;
      status = gpu_.driver().Copy(
          static_cast<char*>((*whole)->data()) + kParts[i][0],
          reply->tensors[i].storage->data(), kParts[i][1], stream);
    }
    return status.ok() ? gpu_.Compare(**whole, seed, stream) : status;
  }

  // Several messages are on their way at once.
  absl::Status InFlight() {
    constexpr size_t kMessages = 8;
    constexpr size_t kBytes = (size_t{1} << 20) + 17;
    const uint64_t seed = NextSeeds(kMessages);
    std::vector<std::shared_ptr<Pending>> written;
    for (size_t i = 0; i < kMessages; ++i) {
      auto storage = gpu_.Make(kBytes, seed + i);
      if (!storage.ok()) return storage.status();
      written.push_back(end_.Write({absl::StrCat("check ", seed + i),
                                    {Piece::Whole(*std::move(storage))},
                                    Only(gpu_.NewStream())}));
    }
    for (size_t i = 0; i < kMessages; ++i) {
      absl::Status status = ReadOk();
      if (status.ok()) status = written[i]->Wait();
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  // The bytes are made by work that runs still when the tensor is written.
  // FAILED_PRECONDITION if it was over too early to show anything.
  absl::Status RunningWork(size_t num_bytes) {
    const uint64_t seed = NextSeeds(2);
    auto tensor = gpu_.Make(num_bytes, seed + 1);  // not these bytes
    auto made = gpu_.Make(num_bytes, seed);
    if (!tensor.ok()) return tensor.status();
    if (!made.ok()) return made.status();
    const GpuStream stream = gpu_.NewStream();
    (*made)->RecordUse(stream);
    (*tensor)->RecordUse(stream);
    absl::Status status = gpu_.KeepBusy(stream, kBusyFor);
    if (status.ok()) {
      status = gpu_.driver().Copy((*tensor)->data(), (*made)->data(), num_bytes,
                                  stream);
    }
    if (!status.ok()) return status;
    const auto written = end_.Write(
        {absl::StrCat("check ", seed), {Piece::Whole(*tensor)}, Only(stream)});
    const absl::StatusOr<bool> was_busy = gpu_.IsBusy(stream);
    status = ReadOk();
    if (status.ok()) status = written->Wait();
    if (status.ok() && was_busy.ok() && !*was_busy) {
      return absl::FailedPreconditionError(
          "the work was done before the tensor was written");
    }
    return status.ok() ? was_busy.status() : status;
  }

  // What was sent is overwritten on its stream as soon as the channel lets go.
  absl::Status Overwrite() {
    constexpr int kTimes = 20;
    constexpr size_t kBytes = size_t{4} << 20;
    const uint64_t seed = NextSeeds(kTimes + 1);
    const GpuStream stream = gpu_.NewStream();
    auto tensor = gpu_.Make(kBytes, seed);
    auto other = gpu_.Make(kBytes, seed + kTimes);
    if (!tensor.ok()) return tensor.status();
    if (!other.ok()) return other.status();
    (*other)->RecordUse(stream);
    for (int i = 0; i < kTimes; ++i) {
      absl::Status status = gpu_.Fill(**tensor, seed + i, stream);
      if (!status.ok()) return status;
      status = end_.Write({absl::StrCat("check ", seed + i),
                           {Piece::Whole(*tensor)},
                           Only(stream)})
                   ->Wait();
      if (status.ok()) {
        status = gpu_.driver().Copy((*tensor)->data(), (*other)->data(), kBytes,
                                    stream);
      }
      if (status.ok()) status = ReadOk();
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  void SayBye() { end_.Write({"bye", {}, {}})->Wait().IgnoreError(); }

 private:
  uint64_t NextSeeds(uint64_t count) { return (seed_ += count) - count; }
  absl::Status ReadOk() {
    absl::StatusOr<PipeMessage> reply = end_.Read();
    if (!reply.ok()) return reply.status();
    if (reply->text == "ok") return absl::OkStatus();
    return absl::DataLossError(absl::StrCat("the peer says: ", reply->text));
  }

  Gpu& gpu_;
  PipeEnd end_;
  uint64_t seed_ = 1;
};

void Ask(Gpu& gpu, const Case& the_case, Asker& asker, Results& results) {
  const std::string name = the_case.ToString();
  // Once through TCP is enough.
  const size_t largest = the_case.way.transport == "shm"
                             ? gpu.LargestTensor()
                             : std::min(gpu.LargestTensor(), size_t{64} << 20);
  results.Check(absl::StrCat(name, ": sizes up to ", largest >> 20, " MiB"),
                asker.Sizes(largest));
  results.Check(absl::StrCat(name, ": 40 tensors at once"), [&] {
    std::vector<size_t> sizes;
    for (size_t i = 0; i < 40; ++i) sizes.push_back(i * i * i * 37);
    return asker.Echo(sizes);
  }());
  results.Check(absl::StrCat(name, ": parts of an allocation"), asker.Parts());
  results.Check(absl::StrCat(name, ": several messages at once"),
                asker.InFlight());
  for (const size_t num_bytes : {size_t{64}, size_t{5} << 20}) {
    const std::string what =
        absl::StrCat(name, ": work that runs still, ", num_bytes, " B");
    const absl::Status status = asker.RunningWork(num_bytes);
    if (absl::IsFailedPrecondition(status)) {
      results.Skip(what, std::string(status.message()));
    } else {
      results.Check(what, status);
    }
  }
  results.Check(absl::StrCat(name, ": overwritten when it was sent"),
                asker.Overwrite());
  asker.SayBye();
}

void RunInTwoProcesses(Gpu& gpu, const Case& the_case, PipeContext& context,
                       Results& results) {
  std::vector<std::string> arguments = {
      "--serve", absl::StrCat("--only=", the_case.way.channel),
      absl::StrCat("--transport=", the_case.way.transport)};
  if (the_case.way.is_remote) arguments.push_back("--remote");
  if (gpu.is_fake()) arguments.push_back("--fake");
  auto child = Child::Start(std::move(arguments));
  if (!child.ok()) return results.Check(the_case.ToString(), child.status());
  const auto line = (*child)->ReadLine(absl::Minutes(1));
  if (!line.ok()) return results.Check(the_case.ToString(), line.status());
  if (!line->starts_with("url ")) {
    return results.Check(the_case.ToString(), false, *line);
  }
  {
    Asker asker(gpu, context.Connect(line->substr(4)));
    Ask(gpu, the_case, asker, results);
  }
  results.Check(absl::StrCat(the_case.ToString(), ": the end"),
                (*child)->End(absl::Seconds(20)));
}

void RunInOneProcess(Gpu& gpu, const Case& the_case, PipeContext& context,
                     Results& results) {
  auto serving = PipeContext::Make(the_case.way, gpu.devices());
  if (!serving.ok()) {
    return results.Check(the_case.ToString(), serving.status());
  }
  const std::string url = (*serving)->Listen();
  const auto server = RealRuntime().StartThread("server", [&] {
    auto pipe = (*serving)->Accept();
    if (pipe.ok()) Serve(gpu, *std::move(pipe));
  });
  {
    Asker asker(gpu, context.Connect(url));
    Ask(gpu, the_case, asker, results);
  }
  server->Join();
}

int Main(int argc, char** argv) {
  const Flags flags(argc, argv,
                    {"--only", "--fake", "--serve", "--transport", "--remote"});
  if (!flags.is_valid()) return kWrongUsage;
  auto gpu = Gpu::Find(flags.Has("--fake"));
  if (!gpu.ok()) return SkipAll(std::string(gpu.status().message()));
  if (flags.Has("--serve")) {
    return ServeMain(**gpu, {flags.Get("--only"), flags.Get("--transport"),
                             flags.Has("--remote")});
  }
  Results results;
  for (const Case& the_case : AllCases()) {
    const std::string only = flags.Get("--only");
    if (!only.empty() && only != the_case.way.channel) continue;
    auto context = PipeContext::Make(the_case.way, (*gpu)->devices());
    if (!context.ok()) {
      results.Skip(the_case.ToString(),
                   std::string(context.status().message()));
    } else if (the_case.is_one_process) {
      RunInOneProcess(**gpu, the_case, **context, results);
    } else {
      RunInTwoProcesses(**gpu, the_case, **context, results);
    }
  }
  return results.Finish();
}

}  // namespace
}  // namespace reprise::gpu

int main(int argc, char** argv) { return reprise::gpu::Main(argc, argv); }

// Tensors are made, sent, worked on and read on streams of GPUs, and nobody
// waits on the host but who wants to: custom streams and default ones, nested
// calls and calls that go from worker to worker, work that still runs when the
// call is made, views, and replies that are ready on other streams.

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/runtime/mutex.h"
#include "sim/scenario/scenario.h"
#include "tests/scenarios/gpu_agent.h"
#include "tests/scenarios/gpu_work.h"

namespace reprise::scenarios {
namespace {

constexpr int kRounds = 6;
constexpr int64_t kSmall = 300;
constexpr int64_t kMedium = 150'000;
// More than a chunk of the channels that copy tensors piece by piece.
constexpr int64_t kLarge = 3'000'000;

// Waits for a `Message::release_guard`.
class Release {
 public:
  explicit Release(Runtime& runtime)
      : mutex_(runtime, "Release"), released_(runtime, "Release") {}

  static std::shared_ptr<void> GuardOf(
      const std::shared_ptr<Release>& release) {
    return OnReleased([release] {
      MutexLock lock(release->mutex_);
      release->is_released_ = true;
      release->released_.NotifyAll();
    });
  }
  bool Wait(absl::Time deadline) {
    MutexLock lock(mutex_);
    while (!is_released_) {
      if (!released_.WaitUntil(mutex_, deadline)) return is_released_;
    }
    return true;
  }

 private:
  Mutex mutex_;
  CondVar released_;
  bool is_released_ ABSL_GUARDED_BY(mutex_) = false;
};

class Caller {
 public:
  Caller(Worker& worker, GpuWork& work, GpuAgent& agent)
      : worker_(worker),
        work_(work),
        agent_(agent),
        random_(worker.random("calls")) {}

  void Run() {
    for (int i = 0; i < kRounds; ++i) {
      const absl::Status status = Start();
      worker_.CheckOk(status, "gpu");
      // Some calls are under way at the same time.
      if (random_.OneIn("finishes", 2)) FinishAll();
    }
    FinishAll();
  }

 private:
  struct Call {
    explicit Call(Runtime& runtime)
        : reply(Future::Ready(runtime, Message())) {}

    Future reply;
    std::vector<std::string> expected;
    std::vector<Tensor> tensors;  // of the request
    StreamSet made_on;
    GpuEvent made;
    int device = 0;
    std::shared_ptr<Release> release;  // null: nobody waits for it
  };

  // Adds a tensor to the call, and what becomes of it.
  absl::Status AddTensor(Call& call, int64_t turned) {
    const GpuStream stream = call.made_on.On(call.device);
    const uint64_t tag = random_.Bits("content");
    const Device device =
        random_.OneIn("on the CPU", 5) ? CpuDevice() : GpuDevice(call.device);
    int64_t size = random_.Between("small", 0, kSmall);
    if (random_.OneIn("is medium", 3))
      size = random_.Between("medium", 0, kMedium);
    if (random_.OneIn("is large", 50)) size = kLarge;
    std::string bytes = BytesOf(tag, size);
    auto tensor = work_.Make(device, stream, bytes);
    if (!tensor.ok()) return tensor.status();
    call.tensors.push_back(*tensor);
    call.expected.push_back(Turned(bytes, turned));
    if (random_.OneIn("has a view", 3)) AddView(call, *tensor, bytes, turned);
    return absl::OkStatus();
  }

  // A part of the tensor, which shares its storage.
  void AddView(Call& call, Tensor view, const std::string& bytes,
               int64_t turned) {
    const auto size = static_cast<int64_t>(bytes.size());
    constexpr int64_t kRows = 3;
    if (random_.OneIn("a range", 2)) {
      view.storage_offset = size / 3;
      view.sizes = {size / (random_.OneIn("a half", 2) ? 2 : 4)};
      call.expected.push_back(
          Turned(bytes.substr(view.storage_offset, view.sizes[0]), turned));
    } else {
      const int64_t row = size / kRows;
      view.sizes = {kRows, row / 2};
      view.strides = {row, 1};
      std::string elements;
      for (int64_t i = 0; i < kRows; ++i) {
        elements += bytes.substr(i * row, row / 2);
      }
      call.expected.push_back(elements);
    }
    worker_.Reached("sent a view");
    call.tensors.push_back(std::move(view));
  }

  int DrawRank(DrawName name) {
    return static_cast<int>(
        random_.Below(name, static_cast<uint64_t>(worker_.world_size())));
  }

  absl::Status Start() {
    Call call(worker_.runtime());
    call.device = static_cast<int>(random_.Below("gpu", 2));
    GpuStream stream{call.device, GpuStream::kDefault};
    if (!random_.OneIn("default stream", 4)) {
      const auto made = work_.NewStream(call.device);
      if (!made.ok()) return made.status();
      stream = *made;
      call.made_on = Only(stream);
    }
    if (random_.OneIn("is busy", 2)) {
      absl::Status status =
          work_.KeepBusy(stream, random_.Between("copies", 1, 60));
      if (!status.ok()) return status;
    }
    GpuCall work{.turn = random_.Between("turn", 0, 500),
                 .way = random_.Between("way", 0, GpuCall::kNumWays - 1)};
    const int to = DrawRank("to");
    if (to == worker_.rank()) worker_.Reached("called itself");
    while (random_.OneIn("one more hop", 3) && work.via.size() < 2) {
      work.via.push_back(DrawRank("via"));
      worker_.Reached("went through others");
    }
    const auto hops = static_cast<int64_t>(1 + work.via.size());
    for (int64_t left = random_.Between("tensors", 1, 4); left > 0; --left) {
      absl::Status status = AddTensor(call, work.turn * hops);
      if (!status.ok()) return status;
    }
    const auto made = work_.devices().gpu_streams()->Record(stream);
    if (!made.ok()) return made.status();
    call.made = *made;
    Message request;
    request.tensors = call.tensors;
    request.streams = call.made_on;
    if (random_.OneIn("has a release", 3)) {
      call.release = std::make_shared<Release>(worker_.runtime());
      request.release_guard = Release::GuardOf(call.release);
    }
    call.reply = agent_.Send(worker_.NameOf(to), work, std::move(request));
    calls_.push_back(std::move(call));
    return absl::OkStatus();
  }

  void FinishAll() {
    for (Call& call : calls_) {
      const absl::Status status = Finish(call);
      work_.devices().gpu_streams()->Release(call.made);
      worker_.CheckOk(status, "call");
    }
    calls_.clear();
  }

  absl::Status Finish(Call& call) {
    if (call.release != nullptr && random_.OneIn("reuses", 2)) {
      if (absl::Status status = Reuse(call); !status.ok()) return status;
    }
    if (!call.reply.status().ok()) return call.reply.status();
    const auto is_made = work_.devices().gpu_driver()->IsDone(call.made);
    if (!is_made.ok()) return is_made.status();
    if (!*is_made) worker_.Reached("answered before the tensors were made");
    absl::Status status = CheckReply(call);
    if (!status.ok()) return status;
    return call.release == nullptr ? status : Reuse(call);
  }

  absl::Status CheckReply(Call& call) {
    const Message& reply = *call.reply.result();
    if (!worker_.Check(reply.tensors.size() == call.expected.size(), "content",
                       absl::StrCat(reply.tensors.size(), " tensors came"))) {
      return absl::OkStatus();
    }
    StreamSet read_on = reply.streams;
    switch (random_.Below("read on", 3)) {
      case 0: {
        for (const GpuStream& stream : reply.streams.streams()) {
          const auto mine = work_.NewStream(stream.device);
          if (!mine.ok()) return mine.status();
          read_on.Set(*mine);
        }
        absl::Status status = call.reply.WaitOn(work_.devices(), read_on);
        if (!status.ok()) return status;
        break;
      }
      case 1: {
        absl::Status status = call.reply.Synchronize(work_.devices());
        if (!status.ok()) return status;
        read_on = {};
        break;
      }
      default:
        break;
    }
    for (size_t i = 0; i < reply.tensors.size(); ++i) {
      const Tensor& tensor = reply.tensors[i];
      const absl::StatusOr<std::string> bytes =
          work_.Read(tensor, read_on.On(tensor.storage->device().index));
      if (!bytes.ok()) return bytes.status();
      worker_.Check(*bytes == call.expected[i], "content",
                    absl::StrCat("tensor ", i, " of ", call.expected[i].size(),
                                 " bytes came back with other bytes"));
    }
    return absl::OkStatus();
  }

  // When the agent says that nobody reads the tensors any more, any stream that
  // comes after ours may write to them.
  absl::Status Reuse(Call& call) {
    const std::shared_ptr<Release> release = std::move(call.release);
    call.release = nullptr;
    const bool is_released = release->Wait(worker_.In(absl::Seconds(30)));
    if (!worker_.Check(is_released, "release",
                       "the guard of a message is kept for 30 s")) {
      return absl::OkStatus();
    }
    worker_.Reached("wrote to what was released");
    const auto other = work_.NewStream(call.device);
    if (!other.ok()) return other.status();
    absl::Status status = work_.Order(*other, call.made_on.On(call.device));
    for (const Tensor& tensor : call.tensors) {
      if (tensor.storage->device() == CpuDevice()) continue;
      if (!status.ok()) return status;
      Tensor all = tensor;
      all.storage_offset = 0;
      all.sizes = {static_cast<int64_t>(tensor.storage->num_bytes())};
      all.strides = {1};
      status = work_.Write(all, *other, BytesOf(1, all.sizes[0]));
    }
    return status;
  }

  Worker& worker_;
  GpuWork& work_;
  GpuAgent& agent_;
  Draws random_;
  std::vector<Call> calls_;
};

// Tensors change the GPU on the way to every second worker.
std::map<std::string, DeviceMap> Maps(Worker& worker) {
  std::map<std::string, DeviceMap> maps;
  for (int rank = 0; rank < worker.world_size(); ++rank) {
    const int other = (rank + worker.rank()) % 2;
    maps[worker.NameOf(rank)] = {{GpuDevice(0), GpuDevice(other)},
                                 {GpuDevice(1), GpuDevice(1 - other)}};
  }
  return maps;
}

void DeviceStreams(Worker& worker) {
  if (worker.environment().devices == nullptr) {
    return worker.Note("this worker has no GPUs");
  }
  GpuWork work(worker);
  AgentOptions options = worker.options();
  options.device_maps = Maps(worker);
  Draws random = worker.random("options");
  options.transport.channels = DrawGpuChannels(random.Part("channels"));
  auto agent =
      GpuAgent::Start(worker, work, options, worker.In(absl::Seconds(30)));
  if (!worker.CheckOk(agent.status(), "start")) return;
  Caller(worker, work, **agent).Run();
  Agent& running = (*agent)->agent();
  worker.CheckOk(running.JoinForShutdown(worker.In(absl::Minutes(1))), "join");
  worker.CheckOk(running.Shutdown(worker.In(absl::Seconds(30))), "shutdown");
}

REPRISE_SCENARIO(
    device_streams,
    {.description = "tensors on GPUs, ordered by streams and never by the host",
     .workers = 3,
     .body = DeviceStreams,
     .probes = {"called itself", "went through others", "sent a view",
                "answered before the tensors were made",
                "wrote to what was released"},
     .gpus_per_host = 2,
     .hosts = {0, 0, 1}});

}  // namespace
}  // namespace reprise::scenarios

// Where tensors arrive: all placements of tensors on CPUs and GPUs under maps
// that are drawn, of an agent or of a call, to others and to itself. What no
// map allows is refused, and the agents go on.

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "sim/scenario/scenario.h"
#include "tests/scenarios/gpu_agent.h"
#include "tests/scenarios/gpu_work.h"

namespace reprise::scenarios {
namespace {

constexpr int kRounds = 8;
constexpr int64_t kLongest = 2000;
// Sent another way by cuda_direct than smaller ones.
constexpr int64_t kLarge = 70'000;

std::vector<Device> AllDevices() {
  return {CpuDevice(), GpuDevice(0), GpuDevice(1)};
}

template <typename T>
void Shuffle(Draws random, std::vector<T>& list) {
  for (size_t i = list.size(); i > 1; --i) {
    std::swap(list[i - 1], list[random.Below("place", i)]);
  }
}

// One to one, between some of our devices and some of the peer's.
DeviceMap DrawMap(Draws random) {
  std::vector<Device> ours = AllDevices();
  std::vector<Device> theirs = AllDevices();
  Shuffle(random.Part("ours"), ours);
  Shuffle(random.Part("theirs"), theirs);
  DeviceMap map;
  const auto size = static_cast<size_t>(random.Between("size", 1, 3));
  for (size_t i = 0; i < size; ++i) map[ours[i]] = theirs[i];
  return map;
}

// Where the map leads. A CPU that is not in it stays a CPU.
Device Follow(const DeviceMap& map, const Device& device) {
  const auto found = map.find(device);
  return found == map.end() ? CpuDevice() : found->second;
}

class Caller {
 public:
  Caller(Worker& worker, GpuWork& work, GpuAgent& agent)
      : worker_(worker),
        work_(work),
        agent_(agent),
        random_(worker.random("calls")) {}

  void Run() {
    for (int i = 0; i < kRounds; ++i) {
      to_ = worker_.NameOf(static_cast<int>(
          random_.Below("peer", static_cast<uint64_t>(worker_.world_size()))));
      if (to_ == worker_.name()) worker_.Reached("called itself");
      // The agent must be usable after each of these.
      if (random_.OneIn("in vain", 3)) worker_.CheckOk(CallInVain(), "gpu");
      worker_.CheckOk(CallByAMap(), "call");
    }
  }

 private:
  absl::StatusOr<Tensor> Make(const Device& device) {
    const int64_t size = random_.OneIn("large", 4)
                             ? kLarge
                             : random_.Between("bytes", 1, kLongest);
    bytes_.push_back(BytesOf(random_.Bits("content"), size));
    return work_.Make(device, {device.index, GpuStream::kDefault},
                      bytes_.back());
  }

  Future Send(const GpuCall& call, std::vector<Tensor> tensors,
              const DeviceMap& map) {
    Message request;
    request.tensors = std::move(tensors);
    CallOptions options;
    options.device_map = map;
    return agent_.Send(to_, call, std::move(request), options);
  }

  absl::Status CallByAMap() {
    DeviceMap map;
    if (random_.OneIn("own map", 2)) {
      map = DrawMap(random_.Part("map"));
      worker_.Reached("a map for one call");
    }
    absl::StatusOr<DeviceMap> used = agent_.agent().GetDeviceMap(to_);
    if (!map.empty()) used = map;
    if (!used.ok()) return used.status();
    bytes_.clear();
    std::vector<Device> places = {CpuDevice()};
    for (const auto& [ours, theirs] : *used) places.push_back(ours);
    std::vector<Tensor> tensors;
    std::vector<std::string> arrivals;
    std::vector<Device> home;
    for (int64_t left = random_.Between("tensors", 1, 4); left > 0; --left) {
      const Device place = places[random_.Below("place", places.size())];
      auto tensor = Make(place);
      if (!tensor.ok()) return tensor.status();
      tensors.push_back(*std::move(tensor));
      const Device arrives = Follow(*used, place);
      arrivals.push_back(arrives.ToString());
      home.push_back(Follow(Reverse(*used), arrives));
    }
    const GpuCall call{.turn = random_.Between("turn", 0, kLongest)};
    const Future reply = Send(call, tensors, map);
    if (!reply.status().ok()) return reply.status();
    const Message& answer = *reply.result();
    const std::string expected = absl::StrJoin(arrivals, " ");
    worker_.Check(answer.payload == expected, "map",
                  absl::StrCat("the tensors arrived on ", answer.payload,
                               ", and not on ", expected));
    for (size_t i = 0; i < answer.tensors.size(); ++i) {
      const Tensor& tensor = answer.tensors[i];
      const Device& place = tensor.storage->device();
      worker_.Check(place == home[i], "map",
                    absl::StrCat("a reply came to ", place.ToString(),
                                 ", and not to ", home[i].ToString()));
      const auto read = work_.Read(tensor, answer.streams.On(place.index));
      if (!read.ok()) return read.status();
      worker_.Check(*read == Turned(bytes_[i], call.turn), "content",
                    absl::StrCat("tensor ", i, " came back with other bytes"));
    }
    if (tensors.size() > 1) worker_.Reached("several tensors");
    return absl::OkStatus();
  }

  // A call that must be refused.
  absl::Status CallInVain() {
    const Device mine = GpuDevice(static_cast<int>(random_.Below("gpu", 2)));
    const Device other = GpuDevice(1 - mine.index);
    auto tensor = Make(mine);
    if (!tensor.ok()) return tensor.status();
    switch (random_.Below("why in vain", 4)) {
      case 0: {
        worker_.Reached("no way there");
        const Future reply = Send({}, {*tensor}, {{other, other}});
        return Expect(reply, absl::StatusCode::kInvalidArgument,
                      "Request device mapping is not available");
      }
      case 1: {
        worker_.Reached("no way back");
        const Future reply =
            Send({.reply_device = other.index}, {*tensor}, {{mine, mine}});
        return Expect(reply, absl::StatusCode::kInvalidArgument,
                      "Response device mapping is not available");
      }
      case 2: {
        worker_.Reached("many to one");
        const Future reply = Send({}, {*tensor}, {{mine, mine}, {other, mine}});
        return Expect(reply, absl::StatusCode::kInvalidArgument, "duplicate");
      }
      default: {
        worker_.Reached("no such device");
        const Future reply = Send({}, {*tensor}, {{mine, GpuDevice(9)}});
        return Expect(reply, absl::StatusCode::kFailedPrecondition, "");
      }
    }
  }

  absl::Status Expect(const Future& reply, absl::StatusCode code,
                      absl::string_view text) {
    const absl::Status status = reply.status();
    worker_.Check(
        status.code() == code && absl::StrContains(status.message(), text),
        "refused",
        absl::StrCat("a call in vain ends with ", status.ToString()));
    return absl::OkStatus();
  }

  Worker& worker_;
  GpuWork& work_;
  GpuAgent& agent_;
  Draws random_;
  std::string to_;
  std::vector<std::string> bytes_;  // of the tensors
};

void DeviceMaps(Worker& worker) {
  if (worker.environment().devices == nullptr) {
    return worker.Note("this worker has no GPUs");
  }
  GpuWork work(worker);
  AgentOptions options = worker.options();
  Draws random = worker.random("options");
  for (int rank = 0; rank < worker.world_size(); ++rank) {
    if (random.OneIn("no map", 4)) continue;
    options.device_maps[worker.NameOf(rank)] = DrawMap(random.Part("map"));
  }
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
    device_maps,
    {.description = "tensors arrive where maps of agents and of calls say",
     .workers = 3,
     .body = DeviceMaps,
     .probes = {"called itself", "a map for one call", "several tensors",
                "no way there", "no way back", "many to one", "no such device"},
     .gpus_per_host = 2,
     .hosts = {0, 0, 1}});

}  // namespace
}  // namespace reprise::scenarios

#include "tests/gpu/agent_end.h"

#include <stdlib.h>

#include <cstdio>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "agent/runtime/runtime.h"
#include "agent/store/open_store.h"
#include "agent/transport/transports.h"

namespace reprise::gpu {
namespace {

constexpr absl::Duration kStartTimeout = absl::Minutes(1);
constexpr absl::Duration kLateFor = absl::Milliseconds(50);

absl::Status CheckAll(Gpu& gpu, const Message& request, uint64_t seed) {
  for (const Tensor& tensor : request.tensors) {
    absl::Status status = gpu.Compare(*tensor.storage, seed++,
                                      request.streams.On(FirstGpu().index));
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::StatusOr<Message> MakeLate(Gpu& gpu, const Message& request,
                                 uint64_t seed) {
  Message reply;
  const GpuStream stream = gpu.NewStream();
  std::vector<std::shared_ptr<Storage>> made;
  for (const Tensor& tensor : request.tensors) {
    const size_t num_bytes = tensor.storage->num_bytes();
    auto bytes = gpu.Make(num_bytes, seed);
    auto storage = gpu.Make(num_bytes, ~seed);
    if (!bytes.ok()) return bytes.status();
    if (!storage.ok()) return storage.status();
    ++seed;
    (*bytes)->RecordUse(stream);
    (*storage)->RecordUse(stream);
    made.push_back(*std::move(bytes));
    reply.tensors.push_back(BytesOf(*std::move(storage)));
  }
  absl::Status status = gpu.KeepBusy(stream, kLateFor);
  for (size_t i = 0; i < made.size() && status.ok(); ++i) {
    status = gpu.driver().Copy(reply.tensors[i].storage->data(),
                               made[i]->data(), made[i]->num_bytes(), stream);
  }
  if (!status.ok()) return status;
  reply.streams = Only(stream);
  return reply;
}

absl::StatusOr<Message> Handle(Gpu& gpu, Message request) {
  const std::string text = request.payload;
  Message reply;
  reply.payload = "ok";
  if (text == "echo") {
    reply.tensors = std::move(request.tensors);
    reply.streams = request.streams;
  } else if (text == "devices") {
    reply.payload.clear();
    for (const Tensor& tensor : request.tensors) {
      absl::StrAppend(&reply.payload, reply.payload.empty() ? "" : " ",
                      tensor.storage->device().ToString());
    }
    reply.tensors = std::move(request.tensors);
    reply.streams = request.streams;
  } else if (text == "trim") {
    gpu.devices().gpu_memory()->Trim();
  } else {
    const absl::StatusOr<uint64_t> seed = SeedIn(text);
    if (!seed.ok()) return seed.status();
    if (absl::StartsWith(text, "late ")) {
      absl::StatusOr<Message> late = MakeLate(gpu, request, *seed);
      if (!late.ok()) return late.status();
      reply = *std::move(late);
    } else {
      absl::Status status = CheckAll(gpu, request, *seed);
      if (!status.ok()) return status;
    }
  }
  reply.type = MessageType::kScriptRet;
  return reply;
}

}  // namespace

RequestHandler MakeHandler(Gpu& gpu) {
  return Blocking([&gpu](Message request, const RequestInfo&) {
    return Handle(gpu, std::move(request));
  });
}

absl::StatusOr<std::unique_ptr<Agent>> StartAgent(
    Gpu& gpu, const GroupSpec& spec, const std::string& name,
    const std::shared_ptr<Store>& store, RequestHandler handler,
    const std::function<void(AgentOptions&)>& customize) {
  Runtime& runtime = RealRuntime();
  std::shared_ptr<Store> meeting = store;
  if (meeting == nullptr) {
    absl::StatusOr<std::shared_ptr<Store>> opened =
        OpenStore(runtime, spec.store);
    if (!opened.ok()) return opened.status();
    meeting = *std::move(opened);
  }
  AgentOptions options;
  options.name = name;
  options.id = name == kServer ? 1 : 0;
  options.world_size = 2;
  options.num_worker_threads = 4;
  options.transport.transports = {spec.transport};
  options.transport.channels = {spec.channel, "basic"};
  options.transport.bind_address = "127.0.0.1";
  options.device_maps[name == kServer ? kClient : kServer] = {
      {FirstGpu(), FirstGpu()}};
  if (customize) customize(options);
  return Agent::Start({.runtime = &runtime,
                       .store = std::move(meeting),
                       .transports = &RealTransports(),
                       .devices = &gpu.devices()},
                      std::move(options), std::move(handler),
                      runtime.Now() + kStartTimeout);
}

StoreDirectory::StoreDirectory() {
  for (const char* const variable : {"TEST_TMPDIR", "TMPDIR"}) {
    const char* const parent = getenv(variable);
    if (parent != nullptr && path_.empty()) path_ = parent;
  }
  if (path_.empty()) path_ = "/tmp";
  path_ += "/reprise-gpu-XXXXXX";
  if (mkdtemp(path_.data()) == nullptr) std::perror(path_.c_str());
}

StoreDirectory::~StoreDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

Tensor BytesOf(std::shared_ptr<Storage> storage) {
  Tensor tensor;
  tensor.dtype = DType::kUInt8;
  tensor.sizes = {static_cast<int64_t>(storage->num_bytes())};
  tensor.strides = {1};
  tensor.storage = std::move(storage);
  return tensor;
}

absl::StatusOr<uint64_t> SeedIn(const std::string& text) {
  uint64_t seed = 0;
  const size_t space = text.find(' ');
  if (space == std::string::npos ||
      !absl::SimpleAtoi(text.substr(space + 1), &seed)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the text of a request makes no sense: ", text));
  }
  return seed;
}

}  // namespace reprise::gpu
